//! Schemas of which not all could be read.

use super::*;

#[test]
fn what_a_list_that_could_not_be_read_whole_lacks_is_not_gone() {
    let others = || ("us", 1, logs(&["Requests"]));
    let before = fleet(&[("eu", 1, logs(&["Requests", "Traces"])), others()]);
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&before, &hub));
    let dropped = planned(&fleet(&[("eu", 1, logs(&["Requests"])), others()]), &hub);
    assert_eq!(shown(&dropped), ["drop function federated_Traces in Logs"], "a list that was read whole is believed");
    for cut in [json!(["Requests", null]), json!({"Requests": 1}), json!("Requests")] {
        let cut = json!([{"database": "Logs", "tables": cut}]);
        let after = fleet(&[("eu", 1, cut.clone()), others()]);
        let plan = planned(&after, &hub);
        let members = bodies(&plan).concat();
        assert!(!plan.changes.iter().any(|change| matches!(change, Change::DropFunction { .. })), "{cut}: {plan:?}");
        assert!(members.is_empty() || members.contains("https://eu.kusto.windows.net"), "{cut}: {members}");
        assert_eq!(shown(&planned(&after, &applied(hub.clone(), &plan))), Vec::<String>::new(), "{cut}");
    }
}

#[test]
fn what_a_list_that_could_not_be_read_whole_has_for_the_first_time_is_federated() {
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, logs(&["Requests"]))]), &hub));
    let cut = json!([{"database": "Logs", "tables": ["Requests", null, "Traces"]}]);
    let plan = planned(&fleet(&[("eu", 1, cut)]), &hub);
    assert_eq!(shown(&plan), ["create function federated_Traces in Logs"]);
}
