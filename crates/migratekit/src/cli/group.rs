//! `migratekit group`: VMs that are handled together, and the order in which they are started.

use std::process::ExitCode;

use api::Client;
use api::oma::groups::{DEFAULT_CONCURRENT_VMS, GroupDetail, GroupRequest, GroupView, MemberRequest, MemberView};
use api::page::Page;
use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::hub::{Context, escape};
use super::output::{fields, show, table, yes_no};

/// Shown below `group --help`.
const EXAMPLES: &str = "\
Examples:
  migratekit group create shop --description 'web shop with its database'
  migratekit group add shop db1 --boot-order 1
  migratekit group add shop web1 --boot-order 2 --boot-delay 30
  migratekit group show shop";

/// What can be done with groups.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum GroupCommand {
    /// Make a group.
    Create(CreateArgs),
    /// List groups.
    List,
    /// Show a group with its members, in the order in which they are started.
    Show {
        /// Name or id.
        group: String,
    },
    /// Delete a group; its VMs stay.
    Delete {
        /// Name or id.
        group: String,
    },
    /// Add a VM to a group, or change how it takes part.
    Add(AddArgs),
    /// Take a VM out of a group.
    Remove {
        /// Name or id of the group.
        group: String,
        /// Name or context id of the VM.
        vm: String,
    },
}

/// A group to make.
#[derive(Args)]
pub struct CreateArgs {
    /// Name to call it by.
    name: String,
    /// What it is for.
    #[arg(long, default_value = "")]
    description: String,
    /// How many of its VMs are worked on at once.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENT_VMS)]
    max_concurrent: u32,
    /// Higher ones come first where groups compete.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
}

/// A VM to add.
#[derive(Args)]
pub struct AddArgs {
    /// Name or id of the group.
    group: String,
    /// Name or context id of the VM.
    vm: String,
    /// Lower ones are started first, equal ones together.
    #[arg(long, value_name = "N", default_value_t = 0)]
    boot_order: u32,
    /// How long to wait before it is started when its turn has come, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    boot_delay: u32,
    /// Higher ones come first among equals.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Keep it in the group without taking part.
    #[arg(long)]
    disabled: bool,
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: GroupCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        GroupCommand::Create(args) => create(context, &client, args).await?,
        GroupCommand::List => list(context, &client).await?,
        GroupCommand::Show { group } => {
            let detail: GroupDetail = client.get(&path(&group)).await?;
            show(context.output, &detail, detail_text)?;
        }
        GroupCommand::Delete { group } => {
            client.delete::<()>(&path(&group)).await?;
            show(context.output, &json!({ "deleted": group }), |_| format!("deleted {group}; its VMs stay"))?;
        }
        GroupCommand::Add(args) => add(context, &client, &args).await?,
        GroupCommand::Remove { group, vm } => {
            client.delete::<()>(&member_path(&group, &vm)).await?;
            show(context.output, &json!({ "removed": vm }), |_| format!("took {vm} out of {group}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(group: &str) -> String {
    format!("/api/v1/machine-groups/{}", escape(group))
}

fn member_path(group: &str, vm: &str) -> String {
    format!("{}/members/{}", path(group), escape(vm))
}

async fn create(context: &Context, client: &Client, args: CreateArgs) -> Result<(), Failure> {
    let request = GroupRequest {
        name: args.name,
        description: args.description,
        max_concurrent_vms: args.max_concurrent,
        priority: args.priority,
    };
    let view: GroupView = client.post("/api/v1/machine-groups", &request).await?;
    show(context.output, &view, |view| {
        format!("made {}\nnext: migratekit group add {} VM --boot-order N", view.name, view.name)
    })
}

async fn list(context: &Context, client: &Client) -> Result<(), Failure> {
    let page: Page<GroupView> = client.get("/api/v1/machine-groups").await?;
    show(context.output, &page, |page| {
        table(
            ["NAME", "VMS", "AT ONCE", "PRIORITY", "DESCRIPTION"],
            page.items.iter().map(|group| {
                [
                    group.name.clone(),
                    group.member_count.to_string(),
                    group.max_concurrent_vms.to_string(),
                    group.priority.to_string(),
                    group.description.clone(),
                ]
            }),
        )
    })
}

async fn add(context: &Context, client: &Client, args: &AddArgs) -> Result<(), Failure> {
    let request = MemberRequest {
        boot_order: args.boot_order,
        boot_delay_seconds: args.boot_delay,
        priority: args.priority,
        enabled: !args.disabled,
    };
    let view: MemberView = client.put(&member_path(&args.group, &args.vm), &request).await?;
    show(context.output, &view, |view| {
        format!("{} is in {} with boot order {}", view.vm_name, args.group, view.boot_order)
    })
}

fn detail_text(detail: &GroupDetail) -> String {
    let group = &detail.group;
    let about = fields([
        ("name", group.name.clone()),
        ("description", group.description.clone()),
        ("at once", format!("{} VMs", group.max_concurrent_vms)),
        ("priority", group.priority.to_string()),
        ("id", group.id.clone()),
    ]);
    let members = table(
        ["ORDER", "VM", "DELAY", "PRIORITY", "TAKES PART", "STATUS"],
        detail.members.iter().map(|member| {
            [
                member.boot_order.to_string(),
                member.vm_name.clone(),
                format!("{} s", member.boot_delay_seconds),
                member.priority.to_string(),
                yes_no(member.enabled),
                member.current_status.to_string(),
            ]
        }),
    );
    format!("{about}\n\nMembers\n{members}")
}
