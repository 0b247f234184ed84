//! Criteria that cannot be decided, on every kind.

use super::*;

/// Each of our kinds, with its plural and the name of its object.
const OURS: [(&str, &str, &str); 4] = [
    ("ADXCluster", "adxclusters", "eu"),
    ("Ingestor", "ingestors", "i"),
    ("Collector", "collectors", "c"),
    ("Alerter", "alerters", "a"),
];

#[tokio::test(start_paused = true)]
async fn every_kind_says_what_is_wrong_with_its_criteria_until_they_are_mended() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    for (kind, plural, name) in OURS {
        let key = (plural.to_owned(), name.to_owned());
        let spec = server.get(&key).expect("it was put there")["spec"].clone();
        let with = |expression: &str| {
            let mut spec = spec.clone();
            spec["criteriaExpression"] = expression.into();
            spec
        };
        let says = |condition: &str| {
            let found = server.condition(&key, condition);
            (found["status"].clone(), found["reason"].clone(), found["message"].clone())
        };
        let mut told = Vec::new();
        for (expression, why) in [
            ("region ==", "it is no CEL expression: "),
            ("'eu'", "it gives string, and must give true or false"),
            ("region == 'eu'", " (the cluster's labels are: none)"),
        ] {
            edit(&server, &key, "/spec", with(expression));
            time::sleep(LATER).await;
            let ready = says("Ready");
            let message = ready.2.as_str().unwrap_or_default().to_owned();
            assert!(message.starts_with("spec.criteriaExpression: ") && message.contains(why), "{kind}: {message}");
            assert_eq!((&ready.0, &ready.1), (&json!("False"), &json!("InvalidCriteria")), "{kind}");
            assert_eq!(says("Stalled"), (json!("True"), ready.1, ready.2), "{kind}: only a person can mend it");
            told.push(message);
            assert_eq!(server.told_of(kind, "InvalidCriteria"), told, "{kind}: each is told by an Event of its own");
        }
        edit(&server, &key, "/spec", with("true"));
        time::sleep(LATER).await;
        assert!(says("Ready").1 != "InvalidCriteria" && says("Stalled").0.is_null(), "{kind} is mended");
        assert_eq!(server.told_of(kind, "InvalidCriteria"), told, "{kind}");
    }
    term.cancel();
}
