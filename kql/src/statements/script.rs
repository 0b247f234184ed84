//! Several commands for one database in one request.

use crate::{
    names::DatabaseName,
    request::{Request, RequestKind},
    statements::request,
};

/// The longest script in bytes of its commands, and the most bytes of records that one command ingests. Kusto's own limit is not documented; adx-mon runs with 1 MB,
/// and half of that leaves room.
pub const MAX_SCRIPT_BYTES: usize = 512 * 1024;

/// Packs commands into scripts, in their order: each as long as [`MAX_SCRIPT_BYTES`] allows, a longer command alone in its own. With every script comes the
/// number of its commands. The answer has a row for each command, in order: OperationId, CommandType, CommandText, Result, Reason.
pub fn scripts(database: &DatabaseName, commands: &[Request]) -> Vec<(Request, usize)> {
    let mut packed = Vec::new();
    let mut start = 0;
    while start < commands.len() {
        let mut bytes = commands[start].text.len();
        let mut end = start + 1;
        while end < commands.len() && bytes + commands[end].text.len() < MAX_SCRIPT_BYTES {
            bytes += commands[end].text.len() + 1;
            end += 1;
        }
        packed.push((script(database, &commands[start..end]), end - start));
        start = end;
    }
    packed
}

fn script(database: &DatabaseName, commands: &[Request]) -> Request {
    let repeatable = commands.iter().all(|command| command.kind.is_repeatable());
    let kind = if repeatable { RequestKind::IdempotentControl } else { RequestKind::Control };
    let lines = commands.iter().map(Request::text).collect::<Vec<_>>().join("\n");
    request("script", kind, Some(database), include_str!("../../text/script.kql"), &[("commands", &lines)])
}
