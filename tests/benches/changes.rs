//! A client's queries while the groups change that they ask, on local Kustos whose every answer takes 20 ms longer: how many there were, how long they took, and that none of
//! them failed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tests::{
    fleet::{Fleet, Pace},
    oracle::judge_if_watched,
    telemetry::REGIONS,
};

use crate::{
    figures::{line, millis},
    goals::Goals,
};

/// How much longer each answer takes, of the hub and of partitions, in milliseconds.
const DELAY: u32 = 20;

/// How many clients ask at once, each one query after another.
const CLIENTS: usize = 4;

/// What they ask: through a function, and a group themselves.
const QUERIES: [&str; 2] = ["federated_Requests() | count", "macro-expand Logs_Partitions as X ( X.Requests ) | count"];

/// Runs an agent once.
async fn once(fleet: &Fleet, program: &str, document: &Path) {
    let mut agent = fleet.start_agent(program, document, &["--once"]);
    let code = agent.exited_within(Duration::from_secs(60)).await.code();
    // A hub of which nobody has beaten holds.
    assert!(matches!(code, Some(0 | 3)), "{program}: {}", agent.output());
}

/// Whether the hub's group has the partition that comes and goes.
async fn is_member(fleet: &Fleet) -> bool {
    let groups = ".show entity_groups | where Name == 'Logs_Partitions' | project Entities";
    let members = fleet.hub.command("Logs", groups).await.expect("the hub answers").column("Entities").concat();
    members.contains(&fleet.partitions[0].url)
}

pub(crate) async fn run(goals: &mut Goals) {
    let fleet = Fleet::start_delayed(Pace::PATIENT, DELAY).await.expect("the servers take the telemetry");
    let whole = fleet.hub_document();
    let text = fs::read_to_string(&whole).expect("the document was just written");
    let blocks = format!("    blockedPartitions: ['{}']\n    macroExpand:", fleet.partitions[0].url);
    let without = fleet.write_document("without", &text.replace("    macroExpand:", &blocks));
    let partitions = REGIONS.iter().zip(&fleet.partitions);
    let partitions: Vec<_> = partitions.map(|(region, server)| fleet.partition_document(region, server)).collect();
    once(&fleet, "agent-hub", &whole).await;
    for partition in &partitions {
        once(&fleet, "agent-partition", partition).await;
    }
    once(&fleet, "agent-hub", &whole).await;

    // `BENCH_PARTITIONS` is set for a run that only shows that the benchmark works.
    let turns = if env::var_os("BENCH_PARTITIONS").is_some() { 2 } else { 20 };
    println!(
        "{CLIENTS} clients ask three partitions through a hub, {DELAY} ms for each round trip; one leaves and comes back {turns} times"
    );
    let is_done = Cell::new(false);
    let changes = async {
        for _ in 0..turns {
            once(&fleet, "agent-hub", &without).await;
            assert!(!is_member(&fleet).await, "it is blocked");
            // Whoever comes back beats several times before.
            let mut looks = 0;
            while !is_member(&fleet).await {
                assert!(looks < 10, "it beats, and does not come back");
                looks += 1;
                once(&fleet, "agent-partition", &partitions[0]).await;
                once(&fleet, "agent-hub", &whole).await;
            }
        }
        is_done.set(true);
    };
    let client = async || {
        let (mut times, mut answers) = (Vec::new(), BTreeMap::<String, usize>::new());
        while !is_done.get() {
            for text in QUERIES {
                let started = Instant::now();
                let answer = match fleet.hub.query("Logs", text).await {
                    Ok(table) => table.column("Count").concat(),
                    Err(error) => format!("failed: {error}"),
                };
                times.push(started.elapsed());
                *answers.entry(answer).or_default() += 1;
            }
        }
        (times, answers)
    };
    let clients = join_all((0..CLIENTS).map(|_| client()));
    let ((), told) = tokio::join!(changes, clients);

    let mut times: Vec<Duration> = told.iter().flat_map(|(times, _)| times.iter().copied()).collect();
    times.sort();
    let at = |percent: usize| millis(times[(times.len() * percent / 100).min(times.len() - 1)]);
    line("queries while groups changed", &format!("{}, p50 {}, p99 {}", times.len(), at(50), at(99)));
    let mut answers = BTreeMap::<String, usize>::new();
    for (answer, count) in told.into_iter().flat_map(|(_, answers)| answers) {
        *answers.entry(answer).or_default() += count;
    }
    let requests =
        |without: usize| REGIONS.iter().skip(without).map(|region| region.requests).sum::<usize>().to_string();
    let others: BTreeMap<_, _> =
        answers.iter().filter(|(answer, _)| ![requests(0), requests(1)].contains(answer)).collect();
    goals.judge("queries that failed, or saw half a group", &format!("{others:?}, at most none"), others.is_empty());
    let has_seen_both = [requests(0), requests(1)].iter().all(|answer| answers.contains_key(answer));
    goals.judge("both groups were asked", &format!("{answers:?}"), has_seen_both);
    judge_if_watched(fleet.stop().await.path());
}
