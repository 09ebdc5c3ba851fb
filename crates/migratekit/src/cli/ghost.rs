//! `migratekit ghost`: what carries our marks and belongs to no live job, and its removal.

use std::process::ExitCode;

use api::Client;
use api::oma::ghosts::{GhostList, GhostView};
use api::oma::replications::Accepted;
use clap::Subcommand;

use super::clock::{ago, stamp};
use super::failover;
use super::failure::{Failure, INTERRUPTED};
use super::hub::{Context, escape, unknown};
use super::output::{hint, or_dash, show, table, yes_no};

/// What can be done with ghosts.
#[derive(Subcommand)]
pub enum GhostCommand {
    /// List ghosts: VMs, volumes and snapshots of ours that no job needs, each with the reason and what to do.
    List {
        /// Look now; otherwise what was seen last is told, which is a few minutes old at most.
        #[arg(long)]
        refresh: bool,
    },
    /// Remove a ghost. It is looked at again first; what something needs is refused.
    Remove {
        /// As the list shows it: `vm-…`, `volume-…`, `snapshot-…`, `vmsnapshot-…`.
        id: String,
        /// Stay until it is done.
        #[arg(long)]
        watch: bool,
    },
}

/// Does it.
///
/// # Errors
/// The hub's problem, or the removal's own when it was watched.
pub async fn run(context: &Context, command: GhostCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        GhostCommand::List { refresh } => {
            let list: GhostList = client.get(&format!("/api/v1/ghosts?refresh={refresh}")).await?;
            show(context.output, &list, list_text)?;
            Ok(ExitCode::SUCCESS)
        }
        GhostCommand::Remove { id, watch } => remove(context, &client, &id, watch).await,
    }
}

async fn remove(context: &Context, client: &Client, id: &str, stay: bool) -> Result<ExitCode, Failure> {
    let begun = client.post(&format!("/api/v1/ghosts/{}/remove", escape(id)), &()).await;
    let accepted: Accepted = begun.map_err(|error| unknown(error, "see `migratekit ghost list --refresh`"))?;
    if !stay {
        show(context.output, &accepted, |accepted| format!("started {}", accepted.tracking_id))?;
        hint(context.output, &format!("next: migratekit job log {} --follow", accepted.tracking_id));
        return Ok(ExitCode::SUCCESS);
    }
    tokio::select! {
        ended = failover::until_ended(context, client, &accepted.tracking_id) => ended?,
        _ = tokio::signal::ctrl_c() => {
            hint(context.output, &format!("\nit goes on: migratekit job show {}", accepted.tracking_id));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    show(context.output, &accepted, |_| format!("removed {id}"))?;
    Ok(ExitCode::SUCCESS)
}

fn list_text(list: &GhostList) -> String {
    let mut text = if list.items.is_empty() {
        "no ghosts".to_owned()
    } else {
        let rows = list.items.iter().map(|ghost| {
            [
                ghost.id.clone(),
                ghost.kind.as_str().to_owned(),
                ghost.name.clone(),
                or_dash(ghost.vm_name.as_deref()),
                ago(ghost.created.or(Some(ghost.seen_since))),
                yes_no(ghost.removable),
            ]
        });
        let about: Vec<String> = list.items.iter().map(about).collect();
        format!("{}\n\n{}", table(["ID", "KIND", "NAME", "VM", "SINCE", "REMOVABLE"], rows), about.join("\n"))
    };
    text.push_str(&format!("\n\nlooked at {}", stamp(Some(list.looked_at))));
    for note in &list.notes {
        text.push_str(&format!("\nnot looked at: {note}"));
    }
    text
}

fn about(ghost: &GhostView) -> String {
    let mut text = format!("{}\n  {}", ghost.id, ghost.reason);
    if let Some(obstacle) = &ghost.obstacle {
        text.push_str(&format!("\n  stays: {obstacle}"));
    }
    text.push_str(&format!("\n  remedy: {}", ghost.remedy));
    text
}

#[cfg(test)]
mod tests {
    use api::oma::ghosts::GhostKind;
    use time::macros::datetime;

    use super::*;

    fn ghost(obstacle: Option<&str>) -> GhostView {
        GhostView {
            id: "vm-1".to_owned(),
            kind: GhostKind::Vm,
            resource_id: "1".to_owned(),
            name: "web1".to_owned(),
            target: Some("cloud".to_owned()),
            vm_context_id: None,
            vm_name: None,
            job_id: None,
            created: None,
            seen_since: datetime!(2026-03-04 05:00 UTC),
            reason: "nobody needs it".to_owned(),
            removable: obstacle.is_none(),
            obstacle: obstacle.map(str::to_owned),
            remedy: "do this".to_owned(),
        }
    }

    fn text(items: Vec<GhostView>, notes: &[&str]) -> String {
        let notes = notes.iter().map(|note| (*note).to_owned()).collect();
        list_text(&GhostList { items, looked_at: datetime!(2026-03-04 06:00 UTC), notes })
    }

    #[test]
    fn each_ghost_is_explained_and_an_empty_list_says_so() {
        assert!(text(Vec::new(), &[]).starts_with("no ghosts\n\nlooked at "));
        let listed = text(vec![ghost(None), ghost(Some("a replica hangs on it"))], &["target x: away"]);
        assert!(listed.contains("vm-1\n  nobody needs it\n  remedy: do this\n"), "{listed}");
        assert!(listed.contains("\n  stays: a replica hangs on it\n  remedy: do this"), "{listed}");
        assert!(listed.ends_with("\nnot looked at: target x: away"), "{listed}");
    }
}
