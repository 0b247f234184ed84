//! From what is known of the cluster to the heartbeat of this moment. Pure; the only writer of heartbeat content.

use jiff::Timestamp;
use shared::{
    document::PartitionConfig,
    heartbeat::{Heartbeat, SchemaInventory},
};

/// Composes a heartbeat. Without an inventory (none could be read since the agent started) the beat has no schema: it says that the partition lives, and our
/// hub keeps what it knows of it. `is_stale`: whether the cluster has not told for long what it holds, so that what it told last is only repeated.
pub fn compose(
    config: &PartitionConfig,
    inventory: Option<&SchemaInventory>,
    is_stale: bool,
    now: Timestamp,
) -> Heartbeat {
    Heartbeat {
        timestamp: now,
        endpoint: config.endpoint.clone(),
        schema: inventory.cloned(),
        is_stale,
        metadata: config.partitioning.clone(),
    }
}
