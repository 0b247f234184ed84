//! The dry run of the hub's agent. I/O: what a pass reads, and standard output.

use std::{collections::BTreeMap, io::Write as _};

use shared::{
    document::HubConfig,
    runtime::{Exit, PartitionState, PassOutcome, World, chain},
};

use super::{Blind, HubAgent, Seen};
use crate::{
    fleet::Fleet,
    guards::HoldReason,
    plan::{Change, Decision, Hold, Plan, plan},
    report::{SET_UP, planned_outcome},
    setup,
};

/// The most problems of partitions' heartbeats that are told: strangers write them.
const MAX_TOLD: usize = 100;

/// Prints what a pass would do and why, with the commands, and changes nothing.
pub async fn preview(config: HubConfig, world: World) -> Exit {
    let Some(agent) = HubAgent::of_document(config, world.clone()) else { return Exit::BadConfiguration };
    let preview = tokio::select! {
        preview = preview_text(agent) => preview,
        () = world.stop.cancelled() => return Exit::Failed,
    };
    match preview {
        Ok((text, exit)) => {
            // Where nobody reads any more, as behind `| head`, there is nobody to tell.
            let _ = writeln!(std::io::stdout(), "{text}");
            exit
        }
        Err(why) => {
            tracing::error!(error = why, "no plan could be made");
            Exit::Failed
        }
    }
}

async fn preview_text(mut agent: HubAgent) -> Result<(String, Exit), String> {
    let found = setup::look(&agent.hub, &agent.config).await.map_err(|error| chain(&error))?;
    let (missing, tables) = found.into_parts();
    let set_up = missing.commands.iter().map(|command| format!("set up: {}: {SET_UP}", command.text()));
    let mut lines: Vec<String> = set_up.collect();
    let problem = |problem: &String| format!("problem: {problem}");
    if tables.has_no_heartbeats(&agent.config) {
        lines.push(format!("plan {}", Plan::default().hash(&missing.commands)));
        lines.push("The rest follows from the heartbeats, and there is no heartbeat table yet.".to_owned());
        lines.extend(missing.left_alone.iter().map(problem));
        return Ok((lines.join("\n"), planned_outcome(&missing, &Plan::default(), &missing.left_alone).into()));
    }
    let (decision, mut problems, unread, told) = match agent.see(&tables).await {
        Ok(Seen { now, fleet, hub, problems, failures, .. }) => {
            (plan(&fleet, &hub, &agent.watcher.membership, now, &agent.settings), problems, failures, told_of(&fleet))
        }
        Err(Blind::Failed(error)) => return Err(chain(&error)),
        Err(Blind::Incomplete(error)) => {
            let reason = HoldReason::IncompleteRead { why: chain(&error) };
            (Decision::Hold(Hold { reason, released: None, kept: BTreeMap::new() }), Vec::new(), Vec::new(), Vec::new())
        }
    };
    let failures = [unread, missing.left_alone.clone()].concat();
    problems.splice(0..0, failures.iter().cloned());
    let (held, released, outcome) = match decision {
        Decision::Hold(Hold { reason, released, .. }) => (vec![reason], released, PassOutcome::Held),
        Decision::Apply(plan) => {
            let outcome = planned_outcome(&missing, &plan, &failures);
            lines.extend(plan.acknowledged.iter().map(|reason| format!("acknowledged: {reason}")));
            lines.extend(plan.changes.iter().map(Change::in_full));
            let hash = plan.hash(&missing.commands);
            if !hash.is_empty() {
                lines.push(format!("plan {hash}"));
            }
            problems.extend(plan.problems);
            (plan.held, plan.released, outcome)
        }
    };
    lines.extend(held.iter().map(|reason| format!("held: {reason}")));
    if let Some(released) = released {
        lines.extend(released.other_than(agent.settings.acknowledged_plan.as_deref()));
        lines.push(format!("without the hold (acknowledgedPlan: \"{}\"):", released.hash));
        lines.extend(released.changes.iter().map(|change| format!("  {}", change.in_full().replace('\n', "\n  "))));
    }
    if lines.is_empty() {
        let is_whole = outcome == PassOutcome::Unchanged;
        let nothing = if is_whole { "Nothing has to change." } else { "Nothing has to change by what could be read." };
        lines.push(nothing.to_owned());
    }
    lines.extend(told);
    lines.extend(problems.iter().map(problem));
    Ok((lines.join("\n"), outcome.into()))
}

/// What is to be known of partitions, whether or not anything has to change: who is not federated, and what is wrong with heartbeats. Strangers' come last.
fn told_of(fleet: &Fleet) -> Vec<String> {
    let untrusted = fleet.values().filter(|partition| partition.state == PartitionState::Untrusted);
    let excluded = untrusted.map(|partition| {
        let why = partition.reason.as_deref().unwrap_or_default();
        format!("not federated: {}: {why}", partition.beat.endpoint)
    });
    let (federated, others): (Vec<_>, Vec<_>) = fleet.values().partition(|partition| partition.is_federated());
    let mut problems = federated.into_iter().chain(others).flat_map(|partition| {
        let endpoint = &partition.beat.endpoint;
        partition.beat.problems.iter().map(move |what| format!("problem of {endpoint}: {what}"))
    });
    let mut told: Vec<String> = excluded.chain(problems.by_ref().take(MAX_TOLD)).collect();
    let untold = problems.count();
    if untold > 0 {
        told.push(format!("problem: {untold} more problems of partitions"));
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{cluster, fleet};

    #[test]
    fn what_is_wrong_with_the_heartbeats_of_members_is_told_before_that_of_strangers_and_the_rest_is_counted() {
        let strangers: Vec<String> = (0..MAX_TOLD + 2).map(|number| format!("a{number:0>3}")).collect();
        let hosts = strangers.iter().map(String::as_str).chain(["member", "other"]);
        let partitions: Vec<(&str, i64, Value)> = hosts.map(|host| (host, 0, json!([]))).collect();
        let mut fleet = fleet(&partitions);
        for (endpoint, partition) in &mut fleet {
            partition.beat.problems = vec!["its clock is wrong".into()];
            if *endpoint != cluster("member") && *endpoint != cluster("other") {
                (partition.state, partition.reason) = (PartitionState::Untrusted, Some("it is not listed".to_owned()));
            }
        }
        fleet.get_mut(&cluster("other")).unwrap().beat.problems.clear();

        let told = told_of(&fleet);
        let (excluded, problems) = told.split_at(strangers.len());
        let line = |host: &str| format!("not federated: {}: it is not listed", cluster(host));
        assert_eq!(excluded, strangers.iter().map(|host| line(host)).collect::<Vec<_>>());
        let line = |host: &str| format!("problem of {}: its clock is wrong", cluster(host));
        let first = strangers.iter().take(MAX_TOLD - 1).map(|host| line(host));
        let untold = "problem: 3 more problems of partitions".to_owned();
        assert_eq!(problems, [line("member")].into_iter().chain(first).chain([untold]).collect::<Vec<_>>());
        // As many as are told leave nothing to count.
        fleet.retain(|endpoint, _| !strangers[..3].iter().any(|host| cluster(host) == *endpoint));
        assert_eq!(told_of(&fleet).last(), Some(&line(&strangers[MAX_TOLD + 1])));
    }
}
