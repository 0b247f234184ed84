//! Admission makes something else of what is written.

use super::{server::Key, *};

const PULL: &str = "/spec/template/spec/containers/0/imagePullPolicy";

fn deployment() -> Key {
    ("deployments".to_owned(), "a".to_owned())
}

fn note(path: &str) -> String {
    format!("Deployment 'a' is not at {path} as it is applied: an admission webhook or policy changes it on its way")
}

/// What somebody writes, past admission.
fn change(server: &Server, path: &str, value: Value) {
    let mut object = server.get(&deployment()).expect("it was made");
    *object.pointer_mut(path).expect("it has that field") = value;
    server.put(&deployment(), object);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changes_besides_is_told_as_that() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let image = "/spec/template/spec/containers/0/image";
    // It comes before what is changed.
    server.overrule(&deployment(), "/spec/replicas", 3.into());
    let _watches = running(&server, &term).await;
    assert_eq!(server.told("Overruled"), [note("spec.replicas")]);
    let right = server.get(&deployment()).expect("it was made").pointer(image).cloned();
    change(&server, image, "spoilt".into());
    time::sleep(LATER).await;
    assert_eq!(server.get(&deployment()).expect("it is there").pointer(image).cloned(), right);
    let told = ["Deployment 'a' was changed at spec.template.spec.containers[alerter].image"];
    assert_eq!(server.told("DriftReverted"), told);
    assert_eq!(server.told("Overruled"), [note("spec.replicas")]);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn that_our_mark_is_taken_away_is_told_and_hides_nothing_else() {
    let (server, term) = (Server::default(), CancellationToken::new());
    server.overrule(&deployment(), "/metadata/annotations/adx-mon.azure.com~1applied", "theirs".into());
    let _watches = running(&server, &term).await;
    assert_eq!(server.told("Overruled"), [note("metadata.annotations.adx-mon.azure.com/applied")]);
    assert_eq!(server.writes(&deployment()), 1, "it would be answered the same");
    change(&server, "/spec/replicas", 5.into());
    time::sleep(LATER).await;
    assert_eq!(server.get(&deployment()).expect("it is there")["spec"]["replicas"], 1);
    // As the mark tells of all the others, too.
    let account = ("serviceaccounts".to_owned(), "a-alerter".to_owned());
    server.remove(&account);
    time::sleep(LATER).await;
    assert!(server.get(&account).is_some(), "it was not made");
    let told = ["Deployment 'a' was changed at spec.replicas", "ServiceAccount 'a-alerter' was deleted"];
    assert_eq!(server.told("DriftReverted"), told);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_is_made_something_else_of_each_time_is_written_less_and_less_often_until_it_is_not() {
    let (server, term) = (Server::default(), CancellationToken::new());
    server.overrule_each_time(&deployment(), PULL);
    let _watches = running(&server, &term).await;
    assert_eq!(server.writes(&deployment()), 1, "what was answered is left");
    // As others' writes meet it, too.
    for number in 0..20 {
        change(&server, PULL, format!("theirs-{number}").into());
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.writes(&deployment()), 4);
    let says = || {
        let told = server.condition(&("alerters".to_owned(), "a".to_owned()), "WorkloadReady");
        told["message"].as_str().unwrap_or_default().to_owned()
    };
    let why = "; Deployment 'a' is written less and less often: an admission webhook or policy makes something else of \
               spec.template.spec.containers[alerter].imagePullPolicy at each write";
    assert!(says().ends_with(why), "{}", says());
    time::sleep(Duration::from_secs(3600)).await;
    let writes = server.writes(&deployment()) - 4;
    assert!((1..20).contains(&writes), "{writes} in an hour");
    assert!(says().ends_with(why), "{}", says());
    // Nothing but the time draws a look to it.
    server.let_pass(&deployment());
    time::sleep(Duration::from_secs(301)).await;
    let now = server.get(&deployment()).expect("it is there");
    let pull = now.pointer(PULL).and_then(Value::as_str).expect("it is a text");
    assert!(!pull.starts_with("answer") && !pull.starts_with("theirs"), "{pull}");
    assert!(!says().contains("less and less"), "{}", says());
    assert_eq!(server.told("DriftReverted"), Vec::<String>::new());
    term.cancel();
}
