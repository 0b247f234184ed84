//! What a pass or a beat costs, by the recordings of its servers, its log and its process. I/O: files, `/proc`.

use std::{fmt, fs, ops::Add, path::PathBuf};

use serde_json::Value;
use tests::{kusto::KustoServer, process::Process};

use crate::figures::{peak_mb, processor_seconds};

/// What a server is sent, read on from where it was read last.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    read: usize,
}

impl Recording {
    /// From its beginning.
    pub(crate) fn of(server: &KustoServer) -> Self {
        Self { path: server.recording.clone(), read: 0 }
    }

    /// The requests since the last call; the server writes a line before it answers.
    pub(crate) fn requests(&mut self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).expect("the recording can be read");
        // A line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let requests = whole[self.read..].lines().map(|line| serde_json::from_str(line).expect("a line is JSON"));
        let requests = requests.collect();
        self.read = whole.len();
        requests
    }
}

/// The query or command of a request.
pub(crate) fn text_of(request: &Value) -> &str {
    request["csl"].as_str().unwrap_or_default()
}

/// What was sent in some time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    /// Commands that change something: a script is one, whatever is in it.
    pub(crate) statements: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Traffic {
    pub(crate) fn of(requests: &[Value]) -> Self {
        let bytes = |field: &str| requests.iter().filter_map(|request| request[field].as_u64()).sum();
        let texts = requests.iter().map(text_of);
        let statements = texts.filter(|text| text.starts_with('.') && !text.starts_with(".show "));
        Self {
            requests: requests.len() as u64,
            statements: statements.count() as u64,
            sent: bytes("request_bytes"),
            received: bytes("response_bytes"),
        }
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            statements: self.statements + other.statements,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

/// All that is promised of a pass, or a beat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) requests: f64,
    pub(crate) statements: f64,
    pub(crate) sent_bytes: f64,
    pub(crate) received_bytes: f64,
    pub(crate) seconds: f64,
    processor_seconds: f64,
    /// Of its process, since that began.
    pub(crate) peak_mb: f64,
}

impl Cost {
    /// On average over so many passes of an agent, which took this time each.
    pub(crate) fn new(traffic: Traffic, passes: u64, seconds: f64, processor_seconds: f64, pid: u32) -> Self {
        let each = |count: u64| count as f64 / passes.max(1) as f64;
        Self {
            requests: each(traffic.requests),
            statements: each(traffic.statements),
            sent_bytes: each(traffic.sent),
            received_bytes: each(traffic.received),
            seconds,
            processor_seconds: processor_seconds / passes.max(1) as f64,
            peak_mb: peak_mb(pid),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, statements, sent_bytes, received_bytes, seconds, processor_seconds, peak_mb } = self;
        let (sent, received) = (sent_bytes / 1e3, received_bytes / 1e3);
        write!(
            f,
            "{requests:.1} requests, {statements:.1} statements, {sent:.2} KB sent, {received:.2} KB received, {seconds:.2} s, processor {processor_seconds:.3} s, peak {peak_mb:.1} MB"
        )
    }
}

/// The seconds of each pass or beat of an agent, as its log says; a line may be on its way.
pub(crate) fn pass_seconds(agent: &Process) -> Vec<f64> {
    let output = agent.output();
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let seconds =
        whole.lines().filter(|line| line.contains("pass ended")).filter_map(|line| line.split("seconds=").nth(1));
    seconds.map(|seconds| seconds.trim().parse().expect("seconds are a number")).collect()
}

/// What an agent's passes take from here on.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    passes: usize,
    processor_seconds: f64,
}

impl Meter {
    /// An agent that has just been started; all of it counts.
    pub(crate) fn from_start(agent: &Process) -> Self {
        Self { pid: agent.pid().expect("it runs"), passes: 0, processor_seconds: 0.0 }
    }

    /// From now on.
    pub(crate) fn start(agent: &Process) -> Self {
        let pid = agent.pid().expect("it runs");
        Self { pid, passes: pass_seconds(agent).len(), processor_seconds: processor_seconds(pid) }
    }

    /// What each pass since then has cost, if this is what they have sent. `passes`: as many as sent it.
    pub(crate) fn cost(&self, agent: &Process, traffic: Traffic, passes: u64) -> Cost {
        let seconds = pass_seconds(agent).split_off(self.passes);
        let middle = median(seconds);
        Cost::new(traffic, passes, middle, processor_seconds(self.pid) - self.processor_seconds, self.pid)
    }
}

/// The middle one; of none, no number.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
