//! `.add ... principals` and `.show ... principals`: stored and shown. Nobody is asked who they are here, so a role allows and forbids nothing.

use super::{CommandContext, answer};
use crate::{
    catalog::{Principal, PrincipalOwner},
    error::KustoError,
    rows::Rows,
};

pub(super) fn add(
    context: &CommandContext,
    owner: &PrincipalOwner,
    database: Option<&str>,
    role: &str,
    principals: &[String],
    notes: &str,
) -> Result<Rows, KustoError> {
    for principal in principals {
        principal_type(principal)?;
    }
    context.database_or_own(database)?.write(|state| {
        let present = state.principals_mut(owner)?;
        for principal in principals {
            let known = present.iter_mut().find(|known| known.role == role && known.fully_qualified_name == *principal);
            match known {
                Some(known) => notes.clone_into(&mut known.notes),
                None => present.push(Principal {
                    role: role.to_owned(),
                    fully_qualified_name: principal.clone(),
                    notes: notes.to_owned(),
                }),
            }
        }
        Ok::<_, KustoError>(())
    })?;
    show(context, owner, database)
}

pub(super) fn show(
    context: &CommandContext,
    owner: &PrincipalOwner,
    database: Option<&str>,
) -> Result<Rows, KustoError> {
    let database = context.database_or_own(database)?;
    let scope = match owner {
        PrincipalOwner::Database => format!("Database {}", database.name()),
        PrincipalOwner::Table(table) => format!("Table {table}"),
    };
    database.read(|state| {
        let mut rows = Vec::new();
        for Principal { role, fully_qualified_name, notes } in state.principals(owner)? {
            let identity = fully_qualified_name.split_once('=').map_or("", |(_, identity)| identity);
            let object = identity.split(';').next().unwrap_or_default();
            rows.push([
                format!("{scope} {}", role_name(role)),
                principal_type(fully_qualified_name)?.to_owned(),
                object.to_owned(),
                object.to_owned(),
                fully_qualified_name.clone(),
                notes.clone(),
                String::new(),
            ]);
        }
        Ok(answer::strings(
            [
                "Role",
                "PrincipalType",
                "PrincipalDisplayName",
                "PrincipalObjectId",
                "PrincipalFQN",
                "Notes",
                "RoleAssignmentIdentifier",
            ],
            rows,
        ))
    })
}

/// `ingestors` is shown as `Ingestor`.
fn role_name(role: &str) -> &str {
    match role {
        "admins" => "Admin",
        "users" => "User",
        "viewers" => "Viewer",
        "unrestrictedviewers" => "UnrestrictedViewer",
        "ingestors" => "Ingestor",
        "monitors" => "Monitor",
        other => other,
    }
}

fn principal_type(principal: &str) -> Result<&'static str, KustoError> {
    match principal.split_once('=') {
        Some(("aadapp", rest)) if !rest.is_empty() => Ok("Microsoft Entra Application"),
        Some(("aaduser", rest)) if !rest.is_empty() => Ok("Microsoft Entra User"),
        Some(("aadgroup", rest)) if !rest.is_empty() => Ok("Microsoft Entra Group"),
        _ => Err(KustoError::bad_request(format!(
            "'{principal}' is no principal: expected aadapp=..., aaduser=... or aadgroup=..."
        ))),
    }
}
