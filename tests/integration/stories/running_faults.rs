//! One request fails, once, in an agent that goes on: what it remembers from pass to pass must not make more of it. Whichever request of a pass with work it is:
//! nothing live is removed, two passes later all is as it should be, and in twenty after those nothing is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::process::Process;
use tokio::time;

use crate::{
    every_fault,
    faulty_hub::{DATABASES, Hub, Pass, QUIET, Sent, UNTIL_RIGHT, faults, side_by_side},
    setup_faults,
    support::judge_together,
};

/// Parts of the texts of the requests of a pass with work; that each is met is part of the test.
const REQUESTS: [&str; 10] = [
    ".show databases | project",
    ".show databases entities",
    "IsIntended",
    ".show entity_groups",
    LAST_LOOK,
    "_endpoints",
    "into table ['AdxFederationMembers']",
    "into table ['AdxFederationObjects']",
    ".execute database script",
    ".clear cache remote-schema",
];

/// The last request of a pass that finds nothing new.
const LAST_LOOK: &str = "NewBeats";

/// What is said of partitions that take back what they have said, as these do from round to round.
const IN_TURN: &str = "its heartbeats say one thing and another in turn: two agents may beat as this cluster, and each takes back what the other says";

/// What all partitions beat with. What is wrong with it is recorded with the membership, so that each turn has something for that record too.
fn schema(with: bool) -> Value {
    if with {
        json!([{"database": "Logs", "tables": ["A", "B"]}, {"database": "Metrics", "tables": ["M", 7]}])
    } else {
        // A database that is listed no longer would stay.
        json!([{"database": "Logs", "tables": ["A"]}, {"database": "Metrics", "tables": []}])
    }
}

/// Whether a command takes away what partitions have. All three beat at all times, and without more they have what they always have.
fn removes(sent: &Sent, with: bool) -> bool {
    let is_always_there = |line: &str| line.contains("Logs_Partitions") || line.contains("federated_A");
    // A group that only grows is altered by another command.
    sent.text.lines().any(|line| {
        line.starts_with(".alter entity_group") || (line.starts_with(".drop ") && (with || is_always_there(line)))
    })
}

/// A hub, and one agent for all that happens to it.
struct Story {
    hub: Hub,
    agent: Process,
    fault: Value,
    /// Whether the partitions beat with more.
    with: bool,
    /// How many bytes of the agent's log and of the hub's recording were read.
    read: (usize, u64),
    /// All that is on the hub where no request failed, with more and without.
    undisturbed: BTreeMap<bool, Vec<String>>,
    /// What was read there of late.
    passes: Vec<Pass>,
    sent: Vec<Sent>,
    /// When all was right after the last fault, and which rule that met.
    right: Option<(Timestamp, Value)>,
    /// Parts of the texts that have met the fault.
    met: BTreeSet<&'static str>,
}

impl Story {
    async fn start(fault: Value, with: bool) -> Self {
        let hub = Hub::start().await;
        hub.beat_with(&schema(with)).await;
        let agent = hub.agent();
        let (read, undisturbed, passes, sent, right, met) = Default::default();
        let mut story = Self { hub, agent, fault, with, read, undisturbed, passes, sent, right, met };
        story.until("all is made", |story| story.passes.iter().any(|pass| pass.outcome == "unchanged")).await;
        story
    }

    /// Reads what the agent has done since. Before a pass is in its log, its requests are in the recording.
    fn look(&mut self) {
        let Self { hub, agent, read: (log, recording), passes, sent, .. } = self;
        let lines = agent.output_after(*log);
        *log += lines.len();
        passes.extend(lines.lines().filter_map(Pass::read));
        sent.extend(hub.sent_since(recording));
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(600);
        loop {
            self.look();
            if is_so(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not within ten minutes: {}", self.agent.output());
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What was read is of no interest any more.
    fn forget(&mut self) {
        self.look();
        self.passes.clear();
        self.sent.clear();
    }

    /// Stops the agent between two passes, so that the requests of the next one have numbers. On a busy machine it may not come to that: then a number meets another
    /// request.
    async fn hold(&mut self) {
        for _ in 0..10 {
            let passes = self.passes.len();
            self.until("a pass ends", |story| story.passes.len() > passes).await;
            self.agent.signal(Signal::SIGSTOP);
            // What it has sent until then is recorded.
            time::sleep(Duration::from_millis(50)).await;
            self.look();
            if self.sent.last().is_none_or(|sent| sent.text.contains(LAST_LOOK)) {
                return;
            }
            self.agent.signal(Signal::SIGCONT);
        }
    }

    /// The pass that met the fault, once it has ended.
    fn struck(&self) -> Option<usize> {
        let struck = self.sent.iter().find(|sent| sent.is_struck)?;
        self.pass_of(struck)
    }

    fn pass_of(&self, sent: &Sent) -> Option<usize> {
        self.passes.iter().position(|pass| pass.at > sent.at)
    }

    /// The partitions beat with more where it was less, and the other way round.
    async fn beat(&mut self) {
        self.with = !self.with;
        self.hub.beat_with(&schema(self.with)).await;
    }

    /// All that is on the hub, as if there were no rounds before.
    async fn content(&self) -> Vec<String> {
        self.hub.whole_content().await.into_iter().map(|line| line.replace(IN_TURN, "")).collect()
    }

    /// How many requests a pass with work has, in which none fails.
    async fn count(&mut self) -> usize {
        self.forget();
        self.beat().await;
        let work = |story: &Self| story.pass_of(story.sent.iter().find(|sent| sent.writes())?);
        self.until("the work is done", |story| work(story).is_some_and(|work| story.passes.len() > work + 1)).await;
        let work = work(self);
        self.undisturbed.insert(self.with, self.content().await);
        self.sent.iter().filter(|sent| self.pass_of(sent) == work).count()
    }

    /// There is work, and of the requests from then on one fails: the first that a rule fits.
    async fn round(&mut self, mut rule: Value) {
        self.hold().await;
        self.is_quiet();
        self.forget();
        self.beat().await;
        rule["count"] = 1.into();
        rule["fault"] = self.fault.clone();
        self.hub.fail(&json!([rule]));
        self.agent.signal(Signal::SIGCONT);
        let are_over =
            |story: &Self| story.struck().is_some_and(|struck| story.passes.len() > struck + UNTIL_RIGHT + QUIET);
        self.until("passes after the fault", are_over).await;
        self.is_right(&rule).await;
        let texts: Vec<&str> = self.sent.iter().filter(|sent| sent.is_struck).map(|sent| sent.text.as_str()).collect();
        assert_eq!(texts.len(), 1, "{rule} is met once: {texts:?}");
        self.met.extend(REQUESTS.into_iter().filter(|request| texts[0].contains(request)));
    }

    /// What became of it, from the fault to the last of the quiet passes.
    async fn is_right(&mut self, rule: &Value) {
        let output = self.agent.output();
        let removing: Vec<&Sent> = self.sent.iter().filter(|sent| removes(sent, self.with)).collect();
        assert!(removing.is_empty(), "{rule}: what is live is removed: {removing:#?}: {output}");
        let struck = self.struck().expect("it was waited for");
        self.right = Some((self.passes[struck + UNTIL_RIGHT].at, rule.clone()));
        self.is_quiet();
        // Nobody else writes: what is so now was so two passes later.
        for database in DATABASES {
            let is_complete = self.hub.has_groups(database, self.with, 2, true).await;
            assert_eq!(is_complete, Ok(()), "{rule}: {output}");
        }
        assert_eq!(self.hub.has_kept_the_live().await, Ok(()), "{rule}: {output}");
        let left = self.content().await;
        assert!(
            left == self.undisturbed[&self.with],
            "{rule}: {left:#?} instead of {:#?}",
            self.undisturbed[&self.with]
        );
    }

    /// Since all was right there was nothing to write, in any pass until now.
    fn is_quiet(&self) {
        let Some((right, rule)) = &self.right else { return };
        let late: Vec<&Sent> = self.sent.iter().filter(|sent| sent.writes() && sent.at > *right).collect();
        let loud: Vec<&Pass> =
            self.passes.iter().filter(|pass| pass.at > *right && pass.outcome != "unchanged").collect();
        assert!(
            late.is_empty() && loud.is_empty(),
            "{rule}: two passes later there is still something to write: {late:#?}: {loud:?}: {}",
            self.agent.output()
        );
    }

    async fn end(mut self) -> TempDir {
        self.agent.stop().await;
        let known = [REQUESTS.as_slice(), &every_fault::REQUESTS, &setup_faults::REQUESTS].concat();
        assert_eq!(self.hub.sent_without(&known), [""; 0], "no fault was made at these");
        self.hub.stop().await
    }
}

/// One kind of fault at each number of a request that a pass with work has.
async fn at_each_number(kind: usize, fault: Value) -> Story {
    // Of two kinds one has more work at a number where the other has less.
    let mut story = Story::start(fault, kind.is_multiple_of(2)).await;
    let requests = story.count().await.max(story.count().await);
    assert!(requests >= 14, "a pass with work has {requests} requests");
    for number in 0..requests {
        story.round(json!({"skip": number})).await;
    }
    story
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_goes_on_makes_nothing_more_of_a_request_that_fails_once_and_is_quiet_then() {
    let kinds = faults().into_iter().enumerate();
    let mut stories = side_by_side(kinds.map(|(kind, fault)| at_each_number(kind, fault))).await;
    let met: BTreeSet<&str> = stories.iter().flat_map(|story| story.met.iter().copied()).collect();
    // What is asked side by side has no fixed order: which of it no number has met is met by its text.
    for request in REQUESTS.into_iter().filter(|request| !met.contains(request)) {
        stories[0].round(json!({"text": request})).await;
        assert!(stories[0].met.contains(request), "a pass with work does not send {request}");
    }
    let mut folders = Vec::new();
    for story in stories {
        folders.push(story.end().await);
    }
    judge_together(folders.iter().map(TempDir::path));
}
