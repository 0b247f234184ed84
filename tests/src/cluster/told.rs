//! What a control plane tells of our work, for the witness: Events, and objects of our kinds in each version, as a watch tells them, in whatever namespace; and those that are in a
//! story's namespace when it ends, so that none of these is on its way then. They are asked for with all rights, which nobody counts (`rights.rs`), and in a thread of its own, since
//! what a story has begun ends with it. I/O: a thread, the API server.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams},
    config::Kubeconfig,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, watcher},
    },
};
use tokio::{
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{self, Instant},
};

use super::{
    control_plane::{ControlPlane, client_of},
    namespace::PATIENCE,
    objects::{objects_everywhere, objects_of},
};
use crate::witness;

/// What is told: Events, and our kinds with their status.
const KINDS: [&str; 5] = ["events.k8s.io/v1 Event", "ADXCluster", "Ingestor", "Collector", "Alerter"];

/// How long the end of a story waits for what the watches have not told yet.
const A_MOMENT: Duration = Duration::from_millis(100);

/// How often more a list is asked for that fails.
const TRIES: usize = 25;

/// Who keeps what a control plane tells.
#[derive(Debug)]
pub(super) struct Listener {
    ends: UnboundedSender<End>,
}

/// The end of a story; whoever tells it waits until what is told there is kept, or cannot be.
struct End {
    namespace: String,
    kept: Sender<Result<(), String>>,
}

impl Listener {
    /// Starts, where there is a witness.
    pub(super) fn start(kubeconfig: &Kubeconfig) -> Option<Self> {
        witness::folder()?;
        let (ends, told) = unbounded_channel();
        let kubeconfig = kubeconfig.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(listen(&kubeconfig, told));
        });
        Some(Self { ends })
    }

    /// Returns when all that is told in a namespace now is kept.
    pub(super) fn keep_those_in(&self, namespace: &str) -> Result<(), String> {
        let (kept, hears) = channel();
        self.ends.send(End { namespace: namespace.to_owned(), kept }).map_err(|error| error.to_string())?;
        hears.recv_timeout(PATIENCE).unwrap_or_else(|error| Err(error.to_string()))
    }
}

async fn listen(kubeconfig: &Kubeconfig, mut ends: UnboundedReceiver<End>) {
    let client = client_of(kubeconfig).await;
    let watches = KINDS.map(|kind| {
        let watch = watcher(objects_everywhere(&client, kind), watcher::Config::default());
        // What is deleted is told once more, as it was last.
        watch.backoff(Soon).touched_objects().boxed()
    });
    let mut told = stream::select_all(watches);
    let mut kept = Kept::default();
    loop {
        tokio::select! {
            object = told.next() => match object {
                Some(Ok(object)) => kept.keep(object),
                // It begins anew, with all that are there.
                Some(Err(_)) => {}
                None => return,
            },
            end = ends.recv() => {
                let Some(end) = end else { return };
                let outcome = kept.keep_those_in(&client, &end.namespace).await;
                // What was written over a moment ago, or deleted, is in no list.
                let soon = Instant::now() + A_MOMENT;
                while let Ok(Some(object)) = time::timeout_at(soon, told.next()).await {
                    object.into_iter().for_each(|object| kept.keep(object));
                }
                // Who waited too long has failed already.
                let _ = end.kept.send(outcome.map_err(|error| error.to_string()));
            }
        }
    }
}

/// How soon a kind is asked for again that could not be watched: its definition may be on its way.
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(200))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

/// What is kept already: ids and versions.
#[derive(Debug, Default)]
struct Kept(BTreeSet<(Option<String>, Option<String>)>);

impl Kept {
    fn keep(&mut self, mut object: DynamicObject) {
        if self.0.insert((object.uid(), object.resource_version())) {
            object.managed_fields_mut().clear();
            witness::keep(&format!("{}\n", serde_json::to_string(&object).expect("an object is JSON")));
        }
    }

    async fn keep_those_in(&mut self, client: &Client, namespace: &str) -> Result<(), kube::Error> {
        for kind in KINDS {
            let here: Api<DynamicObject> = objects_of(client, namespace, kind);
            for pause in Soon.take(TRIES).map(Some).chain([None]) {
                match (here.list(&ListParams::default()).await, pause) {
                    (Ok(list), _) => {
                        list.items.into_iter().for_each(|object| self.keep(object));
                        break;
                    }
                    // A story may have no definitions.
                    (Err(kube::Error::Api(status)), _) if status.is_not_found() => break,
                    // Another one may change a definition.
                    (Err(_), Some(pause)) => time::sleep(pause).await,
                    (Err(error), None) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Goes with a story's namespace, and sees to it that what was told there is kept.
#[derive(Debug)]
pub(super) struct StoryTold {
    plane: &'static ControlPlane,
    namespace: String,
}

impl StoryTold {
    pub(super) fn new(plane: &'static ControlPlane, namespace: &str) -> Self {
        Self { plane, namespace: namespace.to_owned() }
    }
}

impl Drop for StoryTold {
    fn drop(&mut self) {
        let kept = self.plane.keep_told_in(&self.namespace);
        // A story that fails has said why, and a second panic would hide it.
        assert!(kept.is_ok() || thread::panicking(), "what {} tells is not kept: {kept:?}", self.namespace);
    }
}
