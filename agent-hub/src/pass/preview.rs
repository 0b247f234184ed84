//! The dry run of the hub's agent. I/O: what a pass reads, and standard output.

use std::{collections::BTreeMap, io::Write as _};

use shared::{
    document::HubConfig,
    runtime::{Exit, PartitionState, PassOutcome, World, chain},
};

use super::{Blind, HubAgent, Seen};
use crate::{
    guards::HoldReason,
    plan::{Change, Decision, Hold, Plan, plan},
    report::planned_outcome,
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
    let missing = setup::look(&agent.hub, &agent.config).await.map_err(|error| chain(&error))?;
    let mut lines: Vec<String> = missing.commands.iter().map(|command| format!("set up: {}", command.text())).collect();
    let problem = |problem: &String| format!("problem: {problem}");
    if missing.heartbeat_table {
        lines.push("The rest follows from the heartbeats, and there is no heartbeat table yet.".to_owned());
        lines.extend(missing.left_alone.iter().map(problem));
        return Ok((lines.join("\n"), planned_outcome(&missing, &Plan::default(), &missing.left_alone).into()));
    }
    let (decision, mut problems, unread) = match agent.see(&missing).await {
        Ok(Seen { now, fleet, hub, problems, failures, .. }) => {
            for partition in fleet.values().filter(|partition| partition.state == PartitionState::Untrusted) {
                let why = partition.reason.as_deref().unwrap_or_default();
                lines.push(format!("not federated: {}: {why}", partition.beat.endpoint));
            }
            let told = fleet.values().flat_map(|partition| {
                let endpoint = &partition.beat.endpoint;
                partition.beat.problems.iter().map(move |what| format!("problem of {endpoint}: {what}"))
            });
            lines.extend(told.take(MAX_TOLD));
            (plan(&fleet, &hub, &agent.membership, now, &agent.settings), problems, failures)
        }
        Err(Blind::Failed(error)) => return Err(chain(&error)),
        Err(Blind::Incomplete(error)) => {
            let reason = HoldReason::IncompleteRead { why: chain(&error) };
            (Decision::Hold(Hold { reason, released: None, kept: BTreeMap::new() }), Vec::new(), Vec::new())
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
            if !plan.changes.is_empty() {
                lines.push(format!("plan {}", plan.hash()));
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
    lines.extend(problems.iter().map(problem));
    Ok((lines.join("\n"), outcome.into()))
}
