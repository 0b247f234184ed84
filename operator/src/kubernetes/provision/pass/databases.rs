//! The databases of a pass: made and changed one by one, and none that somebody deleted. I/O: Azure, through the client.

use shared::document::{provisioned::AppliedDatabase, status::whole_seconds};

use super::{
    super::{
        desired::missing_databases,
        differ::{Around, DatabaseStep, absorb_databases, next_database},
        stop::{Next, Stop},
        target::Target,
    },
    Pass, Step, adopted, hash_of, phase_of,
};
use crate::{
    azure::types::{Cluster, NewDatabase, NewDatabaseProperties},
    kubernetes::{conditions::Phase, reason::Reason},
};

pub(super) const CREATE_DATABASE: &str = "create the database ";
pub(super) const CHANGE_DATABASE: &str = "change how long rows are kept in the database ";

/// The database that is being made.
pub(super) fn database_of(what: &str) -> Option<&str> {
    what.strip_prefix(CREATE_DATABASE).map(|name| name.trim_matches('\''))
}

impl Pass<'_> {
    pub(super) async fn databases(&mut self, target: &Target, cluster: &Cluster) -> Result<(), Stop> {
        let phase = Phase::DatabasesReady;
        self.looks += 1;
        let actual = self.azure.arm.databases(&target.path).await;
        let actual = actual.map_err(|error| Stop::from_error(phase, &error))?;
        self.there = actual.iter().map(|database| database.short_name().to_lowercase()).collect();
        let requested = self.status.requested.clone();
        let mut applied = self.applied.get_or_insert_with(|| adopted(&self.desired)).databases.clone();
        if let Some(requested) = &requested {
            absorb_databases(&requested.databases, &mut applied, &actual);
        }
        let failed: Vec<String> =
            self.status.failures.iter().filter_map(|failure| database_of(&failure.what).map(str::to_owned)).collect();
        let missed: Vec<String> = missing_databases(self.cluster).into_iter().cloned().collect();
        let mut refused = Vec::new();
        loop {
            let mut kept = Vec::new();
            let around = Around { now: self.now, failed: &failed, refused: &refused, missed: &missed };
            let step = next_database(&self.desired.databases, &mut applied, &actual, around, &mut kept);
            if let Some(known) = self.applied.as_mut() {
                known.databases.clone_from(&applied);
            }
            let stop = match step {
                DatabaseStep::Done => {
                    self.status.notes.extend(kept);
                    break;
                }
                DatabaseStep::Busy(name) => Stop::wait(
                    phase,
                    Reason::CreatingDatabase,
                    format!("Azure is at work on the database {name}"),
                    None,
                ),
                DatabaseStep::NotShown(name) => {
                    let message = format!("Azure has accepted to make the database {name} and does not show it yet");
                    Stop::wait(phase, Reason::CreatingDatabase, message, None)
                }
                DatabaseStep::Deleted(name) => {
                    self.status.notes.extend(kept);
                    let was_found = self.desired.databases.iter().any(|wanted| wanted.found && wanted.name == name);
                    let exit = if was_found {
                        "make it in Azure; it is wanted for as long as partitions announce it"
                    } else {
                        "make it in Azure, or take it out of the spec and put it back"
                    };
                    let message = format!(
                        "the database {name} was there and is not any more, and it is not made again by itself: {exit}"
                    );
                    return Err(Stop::new(phase, Reason::DatabaseDeleted, message, Next::Person));
                }
                DatabaseStep::Write { database, is_new } => {
                    let name = database.name.clone();
                    let stop = self.write_database(target, cluster, database, is_new).await;
                    applied = self.applied.as_ref().map(|applied| applied.databases.clone()).unwrap_or_default();
                    // One that Azure refuses holds up no other.
                    if stop.is_trouble() && !stop.is_blind {
                        refused.push(name);
                        self.stops.push(stop);
                        continue;
                    }
                    stop
                }
            };
            return Err(stop);
        }
        if self.stops.iter().all(|stop| stop.phase != phase) {
            self.status.failures.retain(|failure| phase_of(&failure.what) != phase);
            let names = self.desired.databases.iter().map(|database| database.name.as_str());
            let names: Vec<&str> = names.filter(|name| self.there.contains(&name.to_lowercase())).take(20).collect();
            let message = if names.is_empty() {
                "no database is asked for".to_owned()
            } else {
                format!("Azure has the databases {}", names.join(", "))
            };
            self.reached.push((phase, Reason::Provisioned, message));
        }
        Ok(())
    }

    async fn write_database(
        &mut self,
        target: &Target,
        cluster: &Cluster,
        database: AppliedDatabase,
        is_new: bool,
    ) -> Stop {
        let phase = Phase::DatabasesReady;
        let soft_delete_period = database.soft_delete_period.clone();
        let properties = NewDatabaseProperties { soft_delete_period };
        let body = NewDatabase { location: cluster.location.clone(), kind: "ReadWrite", properties };
        let name = database.name.as_str();
        let (reason, what) = if is_new {
            (Reason::CreatingDatabase, format!("{CREATE_DATABASE}'{name}'"))
        } else {
            (Reason::UpdatingDatabase, format!("{CHANGE_DATABASE}'{name}'"))
        };
        let request = hash_of(&(target.path.id(), name, &body));
        if let Err(refused) = self.gate(phase, &what, &request) {
            return refused;
        }
        let step = Step { phase, reason, what: &what, request: &request };
        if !is_new {
            if let Err(first) = self.request(phase) {
                return first;
            }
            let result = self.azure.arm.patch_database(&target.path, name, &body).await;
            return self.begun(step, result);
        }
        let result = self.azure.arm.put_database(&target.path, name, &body).await;
        if result.is_ok()
            && let Some(applied) = self.applied.as_mut()
        {
            applied.databases.retain(|known| known.name != database.name);
            let asked = Some(whole_seconds(self.now));
            applied.databases.push(AppliedDatabase { asked, seen: false, ..database.clone() });
        }
        self.begun(step, result)
    }
}
