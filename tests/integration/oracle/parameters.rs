//! The values of query parameters: what our statements send is read by Microsoft's parser as it was meant, and the judge refuses what is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, UNIX_EPOCH},
};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, TableName},
    request::Request,
    statements::{HeartbeatSource, ReadHeartbeats, ReadSchemas, Windows},
};
use serde_json::{Value, json};
use tests::oracle::{Kind, Question};

use crate::{hostile, oracle, recordings::judge};

fn sent(request: &Request) -> BTreeMap<String, String> {
    request.parameters().iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// What Microsoft's parser reads in a literal: its type, and its inside or its strings.
fn read(literal: &str) -> (String, String, Vec<String>) {
    let text = &format!("print x = {literal}");
    let (kind, session) = (Kind::Query, "literals");
    let question = Question { kind, text, session, world: None, database: "Hub", unresolved: false };
    let reading = oracle().read(question).expect("the oracle answers");
    assert!(reading.ok, "{}", reading.complaint("refused", text));
    let columns = reading.columns.unwrap_or_default();
    let inside = reading.literals.into_iter().map(|(_, inside)| inside).collect();
    (columns[0].1.clone(), inside, reading.strings)
}

/// `[d.]hh:mm:ss[.fffffff]`, read by nothing that wrote it.
pub(crate) fn duration(text: &str) -> Duration {
    let (rest, fraction) = match text.rsplit_once('.') {
        Some((rest, fraction)) if rest.contains(':') => (rest, fraction),
        _ => (text, "0"),
    };
    let (days, clock) = rest.split_once('.').unwrap_or(("0", rest));
    let number = |text: &str| text.parse::<u64>().expect("digits");
    let parts: Vec<u64> = clock.split(':').map(number).collect();
    let seconds = parts[0] * 3600 + parts[1] * 60 + parts[2];
    let ticks: u32 = format!("{fraction:0<7}").parse().expect("digits");
    Duration::new(number(days) * 86_400 + seconds, ticks * 100)
}

#[test]
fn what_our_queries_are_given_is_read_as_it_was_meant() {
    let database = &DatabaseName::new("Hub").expect("the name follows Kusto's rules");
    let source = &HeartbeatSource::Shared(TableName::new("Heartbeats").expect("it follows Kusto's rules"));
    let [millisecond, day] = [Duration::from_millis(1), Duration::from_secs(86_400)];
    for (beats, schemas, interval) in
        [(millisecond * 4000, day, millisecond * 500), (day * 7 + millisecond * 61_001, day * 400, day)]
    {
        let windows = Windows { beats, schemas };
        let since = UNIX_EPOCH + day * 20_000 + Duration::new(3, 123_456_700);
        let request = ReadHeartbeats { database, source, windows, since, interval }.request();
        let given = sent(&request);
        assert_eq!(oracle().wrong_parameter(request.text(), &given).expect("the oracle answers"), None);
        for (name, meant) in [("_window", beats), ("_schemas", schemas), ("_beat", interval / 2)] {
            let (kind, inside, _) = read(&given[name]);
            assert_eq!((&*kind, duration(&inside)), ("timespan", meant), "{name}");
        }
        let (kind, inside, _) = read(&given["_since"]);
        let since = jiff::Timestamp::try_from(since).expect("it is a time");
        assert_eq!((&*kind, inside.parse().ok()), ("datetime", Some(since)));
        let known = BTreeSet::from(
            ["https://eu.kusto.windows.net", "http://127.0.0.1:1"]
                .map(|text| ClusterEndpoint::parse(text).expect("it is an endpoint")),
        );
        for (request, all, known) in [
            (request, "true", BTreeSet::new()),
            (
                ReadHeartbeats { database, source, windows, since: UNIX_EPOCH, interval }
                    .request_of(&known, Some("a'b*")),
                "false",
                known,
            ),
        ] {
            let given = sent(&request);
            assert_eq!(oracle().wrong_parameter(request.text(), &given).expect("the oracle answers"), None);
            assert_eq!(given["_all"], format!("bool({all})"));
            let (kind, _, strings) = read(&given["_known"]);
            let meant = known.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!((&*kind, strings), ("dynamic", meant));
        }
        let endpoints = &hostile().into_iter().collect::<BTreeSet<_>>();
        let request = ReadSchemas { database, source, windows, endpoints }.request();
        let given = sent(&request);
        assert_eq!(oracle().wrong_parameter(request.text(), &given).expect("the oracle answers"), None);
        let (kind, _, strings) = read(&given["_endpoints"]);
        assert_eq!((&*kind, strings.into_iter().collect::<BTreeSet<_>>()), ("dynamic", endpoints.clone()));
    }
}

const QUERY: &str = "declare query_parameters(_window:timespan, _at:datetime, ['_the name']:string = 'x', _n:long = 1, _any:dynamic = dynamic(null)); print _window, _at";

fn refusals(parameters: &Value) -> Vec<String> {
    let properties = json!({"Options": {}, "Parameters": parameters});
    let line = json!({"path": "/v2/rest/query", "db": "Hub", "csl": QUERY, "status": 200, "properties": properties});
    let verdict = judge([line]);
    assert_eq!(verdict.texts, 1);
    verdict.refused
}

#[test]
fn values_of_the_declared_types_are_accepted() {
    let all = json!({
        "_window": "time(1.02:03:04.5)", "_at": "datetime(2025-01-31T12:00:00.1234567Z)", "_the name": "'it\\'s'", "_n": -5,
        "_any": "dynamic({\"a\": [1, \"b\"], \"c\": datetime(2025-01-01)})",
    });
    assert_eq!(refusals(&all), [] as [String; 0]);
    let others = json!({"_window": "-1h", "_at": "datetime(null)", "_n": "long(0x1F)"});
    assert_eq!(refusals(&others), [] as [String; 0]);
}

#[test]
fn values_that_are_not_what_a_query_declares_are_refused() {
    let (window, at) = ("_window", "_at");
    let day = "datetime(2025-01-01)";
    for (parameters, why) in [
        (json!({window: "1h"}), "'_at' is declared and not sent"),
        (json!({window: "1h", at: day, "_other": "1"}), "'_other' is sent and not declared"),
        (json!({window: "1", at: day}), "_window:timespan is sent as 1"),
        (json!({window: "1h", at: "'2025-01-01'"}), "_at:datetime is sent as '2025-01-01'"),
        (json!({window: "1h", at: "now()"}), "_at:datetime is sent as now()"),
        (json!({window: "1h + 1h", at: day}), "_window:timespan is sent as 1h + 1h"),
        (json!({window: "1h", at: "datetime(2025-01-01), y = 1"}), "_at:datetime is sent as datetime(2025-01-01), y"),
        (json!({window: "1h", at: "datetime(2025-13-01)"}), "_at"),
        (json!({window: "1h", at: day, "_the name": "it's"}), "print"),
        (json!({window: "1h", at: day, "_n": 1.5}), "_n:long is sent as 1.5"),
        (json!({window: "1h", at: day, "_any": "[1]"}), "_any"),
        (json!({window: "1h", at: day, "_any": "'a'"}), "_any:dynamic is sent as 'a'"),
    ] {
        let refused = refusals(&parameters);
        assert!(matches!(&*refused, [one] if one.contains(why)), "{parameters}: {why} is not told in {refused:?}");
    }
}
