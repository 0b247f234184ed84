//! All Events of a control plane, for the witness: each as it comes, in whatever namespace, and those of a story's namespace when it ends, so that none is on its way then.
//! They are asked for with all rights, which nobody counts (`rights.rs`), and in a thread of its own, since what a story has begun ends with it. I/O: a thread, the API server.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Sender, channel},
    thread,
};

use futures::StreamExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    config::Kubeconfig,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    control_plane::{ControlPlane, client_of},
    namespace::PATIENCE,
};
use crate::witness;

/// Who keeps the Events of a control plane.
#[derive(Debug)]
pub(super) struct EventWatch {
    ends: UnboundedSender<End>,
}

/// The end of a story; whoever tells it waits until the Events there are kept, or cannot be.
struct End {
    namespace: String,
    kept: Sender<Result<(), String>>,
}

impl EventWatch {
    /// Starts, where there is a witness.
    pub(super) fn start(kubeconfig: &Kubeconfig) -> Option<Self> {
        witness::folder()?;
        let (ends, told) = unbounded_channel();
        let kubeconfig = kubeconfig.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(watch(&kubeconfig, told));
        });
        Some(Self { ends })
    }

    /// Returns when all that are in a namespace now are kept.
    pub(super) fn keep_those_in(&self, namespace: &str) -> Result<(), String> {
        let (kept, hears) = channel();
        self.ends.send(End { namespace: namespace.to_owned(), kept }).map_err(|error| error.to_string())?;
        hears.recv_timeout(PATIENCE).unwrap_or_else(|error| Err(error.to_string()))
    }
}

async fn watch(kubeconfig: &Kubeconfig, mut ends: UnboundedReceiver<End>) {
    let client = client_of(kubeconfig).await;
    let events = watcher(Api::<Event>::all(client.clone()), watcher::Config::default());
    let mut events = events.default_backoff().applied_objects().boxed();
    let mut kept = Kept::default();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => kept.keep(event),
                // It begins anew, with all that are there.
                Some(Err(_)) => {}
                None => return,
            },
            end = ends.recv() => {
                let Some(end) = end else { return };
                let here = Api::<Event>::namespaced(client.clone(), &end.namespace);
                let listed = here.list(&ListParams::default()).await;
                let outcome = listed.map(|list| list.items.into_iter().for_each(|event| kept.keep(event)));
                // Who waited too long has failed already.
                let _ = end.kept.send(outcome.map_err(|error| error.to_string()));
            }
        }
    }
}

/// What is kept already: ids and versions.
#[derive(Debug, Default)]
struct Kept(BTreeSet<(Option<String>, Option<String>)>);

impl Kept {
    fn keep(&mut self, mut event: Event) {
        if self.0.insert((event.uid(), event.resource_version())) {
            event.managed_fields_mut().clear();
            witness::keep(&format!("{}\n", serde_json::to_string(&event).expect("an Event is JSON")));
        }
    }
}

/// Goes with a story's namespace, and sees to it that its Events are kept.
#[derive(Debug)]
pub(super) struct StoryEvents {
    plane: &'static ControlPlane,
    namespace: String,
}

impl StoryEvents {
    pub(super) fn new(plane: &'static ControlPlane, namespace: &str) -> Self {
        Self { plane, namespace: namespace.to_owned() }
    }
}

impl Drop for StoryEvents {
    fn drop(&mut self) {
        let kept = self.plane.keep_events_in(&self.namespace);
        // A story that fails has said why, and a second panic would hide it.
        assert!(kept.is_ok() || thread::panicking(), "the Events in {} are not kept: {kept:?}", self.namespace);
    }
}
