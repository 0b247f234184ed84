//! Every write of an operator meets a fault once: which writes there are is told by the operator, and by no list. No I/O; used by the proxy.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::proxy::Seen;

/// What a write meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// It is refused with this status; with 429, the client is asked to wait for a second.
    Refused(u16),
    /// The connection is reset before the API server has heard of it.
    Reset,
    /// The API server does it, and the connection is reset before the answer.
    Lost,
}

/// What has met the fault.
#[derive(Debug, Default)]
pub struct Spoilt {
    /// Each once more for each time.
    pub writes: Vec<Seen>,
    /// The shortest time after which a write that met it was sent again; leases apart, for which nobody waits as he is asked to, and Events.
    pub soonest: Option<Duration>,
}

/// A fault, and what has met it.
#[derive(Debug)]
pub(super) struct Faults {
    fault: WriteFault,
    times: usize,
    /// How often, and when, unless it was sent again since.
    met: HashMap<String, (usize, Option<Instant>)>,
    spoilt: Spoilt,
}

impl Faults {
    /// A patch meets the fault this often, whatever else once.
    pub(super) fn new(fault: WriteFault, times: usize) -> Self {
        Self { fault, times, met: HashMap::new(), spoilt: Spoilt::default() }
    }

    /// What becomes of a request.
    pub(super) fn meet(&mut self, seen: &Seen, body: &[u8]) -> Option<WriteFault> {
        if !seen.is_write() {
            return None;
        }
        let (now, times) = (Instant::now(), if seen.method == "PATCH" { self.times } else { 1 });
        let (met, last) = self.met.entry(what(seen, body)).or_default();
        if let Some(last) = last.take()
            && !seen.is_lease()
            && !is_event(seen)
        {
            let waited = now.duration_since(last);
            self.spoilt.soonest = Some(self.spoilt.soonest.map_or(waited, |soonest| soonest.min(waited)));
        }
        if *met >= times {
            return None;
        }
        (*met, *last) = (*met + 1, Some(now));
        self.spoilt.writes.push(seen.clone());
        Some(self.fault)
    }

    pub(super) fn end(self) -> Spoilt {
        self.spoilt
    }
}

/// Whether it makes an Event, or counts one once more.
fn is_event(seen: &Seen) -> bool {
    seen.path.contains("/events")
}

/// What tells a write from all others that are not the same once more.
fn what(seen: &Seen, body: &[u8]) -> String {
    let content: Value = serde_json::from_slice(body).unwrap_or_default();
    let fields = |value: &Value| {
        let fields = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        fields.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
    };
    let about = if seen.is_lease() {
        // It is taken, counted, renewed and released by one manager.
        fields(&content["spec"])
    } else if is_event(seen) {
        format!("{} {}", content["reason"], content["regarding"]["name"])
    } else {
        // Room is made in an object and given up by one manager.
        fields(&content)
    };
    format!("{} {} {about}", seen.method, seen.path)
}
