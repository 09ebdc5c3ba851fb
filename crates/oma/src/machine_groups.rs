//! Groups of VMs: who belongs to one, and in which order they are started. Starts nothing.

use api::Problem;
use api::oma::groups::{
    GroupDetail, GroupRequest, GroupView, MAX_BOOT_DELAY_SECONDS, MAX_BOOT_ORDER, MAX_CONCURRENT_VMS,
    MAX_DESCRIPTION_CHARS, MAX_GROUP_NAME_CHARS, MAX_PRIORITY, MemberRequest, MemberView,
};
use model::FailureKind;
use store::StoreError;
use store::vm_group_memberships::{self as memberships, Member, MemberFields};
use store::vm_machine_groups::{self as groups, GroupFields, MachineGroup};

use crate::error::OmaError;
use crate::inventory::vm_called;
use crate::state::OmaState;

/// Makes a group.
///
/// # Errors
/// The request is wrong, the name is taken, or there are too many; the database fails.
pub(crate) async fn create(state: &OmaState, request: &GroupRequest, created_by: &str) -> Result<GroupView, OmaError> {
    let created = groups::create(state.store(), &fields(request)?, created_by).await;
    Ok(view(created.map_err(name_taken)?, 0))
}

/// Replaces what a group says of itself; its members stay.
///
/// # Errors
/// There is no such group, the request is wrong, or the name is taken; the database fails.
pub(crate) async fn replace(state: &OmaState, group: &str, request: &GroupRequest) -> Result<GroupView, OmaError> {
    let fields = fields(request)?;
    let id = group_called(state, group).await?.id;
    let replaced = groups::replace(state.store(), &id, &fields).await.map_err(name_taken)?;
    let members = memberships::of_group(state.store(), &id).await?;
    Ok(view(replaced, members.len() as u64))
}

/// Every group by name.
///
/// # Errors
/// The database fails.
pub(crate) async fn list(state: &OmaState) -> Result<Vec<GroupView>, OmaError> {
    let counts = memberships::counts(state.store()).await?;
    let rows = groups::list(state.store()).await?;
    let count = |row: &MachineGroup| counts.get(&row.id).copied().unwrap_or(0);
    Ok(rows.into_iter().map(|row| (count(&row), row)).map(|(members, row)| view(row, members)).collect())
}

/// A group with its members in their order.
///
/// # Errors
/// There is none; the database fails.
pub(crate) async fn show(state: &OmaState, group: &str) -> Result<GroupDetail, OmaError> {
    let row = group_called(state, group).await?;
    let members = memberships::of_group(state.store(), &row.id).await?;
    let members: Vec<MemberView> = members.into_iter().map(member_view).collect();
    Ok(GroupDetail { group: view(row, members.len() as u64), members })
}

/// Deletes a group; its VMs stay.
///
/// # Errors
/// There is none; the database fails.
pub(crate) async fn delete(state: &OmaState, group: &str) -> Result<(), OmaError> {
    let id = group_called(state, group).await?.id;
    Ok(groups::delete(state.store(), &id).await?)
}

/// Adds a VM to a group, or changes how it takes part.
///
/// # Errors
/// There is no such group or VM, the request is wrong, or the group is full; the database fails.
pub(crate) async fn put_member(
    state: &OmaState,
    group: &str,
    vm: &str,
    request: &MemberRequest,
    added_by: &str,
) -> Result<MemberView, OmaError> {
    let fields = member_fields(request)?;
    let group = group_called(state, group).await?;
    let vm = vm_called(state, vm).await?;
    let row = memberships::put(state.store(), &group.id, &vm.context_id, fields, added_by).await?;
    Ok(member_view(Member { row, vm_name: vm.vm_name, current_status: *vm.current_status }))
}

/// Takes a VM out of a group.
///
/// # Errors
/// There is no such group, or the VM is not in it; the database fails.
pub(crate) async fn remove_member(state: &OmaState, group: &str, vm: &str) -> Result<(), OmaError> {
    let group = group_called(state, group).await?;
    let vm = vm_called(state, vm).await?;
    memberships::remove(state.store(), &group.id, &vm.context_id).await.map_err(|error| match error {
        StoreError::NotFound { .. } => {
            Problem::new(FailureKind::NotFound, format!("{} is not in the group {}", vm.vm_name, group.name))
                .remedy(format!("`migratekit group show {}` lists its members", group.name))
                .into()
        }
        other => OmaError::from(other),
    })
}

/// The group with this id or name.
///
/// # Errors
/// There is none; the database fails.
pub(crate) async fn group_called(state: &OmaState, group: &str) -> Result<MachineGroup, OmaError> {
    groups::find(state.store(), group).await.map_err(|error| {
        let is_absent = error.kind() == FailureKind::NotFound;
        let error = OmaError::from(error);
        if !is_absent {
            return error;
        }
        error.into_problem().remedy("`migratekit group list` shows the groups, `group create` makes one").into()
    })
}

fn name_taken(error: StoreError) -> OmaError {
    let is_taken = matches!(error, StoreError::Duplicate { .. });
    let error = OmaError::from(error);
    if !is_taken {
        return error;
    }
    error.into_problem().remedy("choose another name; `migratekit group list` shows those there are").into()
}

fn fields(request: &GroupRequest) -> Result<GroupFields, Problem> {
    let name = request.name.trim();
    let legal = (1..=MAX_GROUP_NAME_CHARS).contains(&name.chars().count()) && !name.contains(char::is_control);
    require(legal, || format!("name must have 1 to {MAX_GROUP_NAME_CHARS} printable characters"))?;
    require(request.description.chars().count() <= MAX_DESCRIPTION_CHARS, || {
        format!("description must have at most {MAX_DESCRIPTION_CHARS} characters")
    })?;
    require((1..=MAX_CONCURRENT_VMS).contains(&request.max_concurrent_vms), || {
        format!("max_concurrent_vms must be 1 to {MAX_CONCURRENT_VMS}")
    })?;
    priority_in_range(request.priority)?;
    Ok(GroupFields {
        name: name.to_owned(),
        description: request.description.clone(),
        max_concurrent_vms: request.max_concurrent_vms,
        priority: request.priority,
    })
}

fn member_fields(request: &MemberRequest) -> Result<MemberFields, Problem> {
    require(request.boot_order <= MAX_BOOT_ORDER, || format!("boot_order must be 0 to {MAX_BOOT_ORDER}"))?;
    require(request.boot_delay_seconds <= MAX_BOOT_DELAY_SECONDS, || {
        format!("boot_delay_seconds must be 0 to {MAX_BOOT_DELAY_SECONDS}")
    })?;
    priority_in_range(request.priority)?;
    Ok(MemberFields {
        enabled: request.enabled,
        priority: request.priority,
        boot_order: request.boot_order,
        boot_delay_seconds: request.boot_delay_seconds,
    })
}

fn priority_in_range(priority: i32) -> Result<(), Problem> {
    let range = -MAX_PRIORITY..=MAX_PRIORITY;
    require(range.contains(&priority), || format!("priority must be {} to {}", range.start(), range.end()))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Problem> {
    if holds {
        return Ok(());
    }
    Err(Problem::new(FailureKind::Invalid, otherwise()).remedy("choose a value in that range"))
}

fn view(row: MachineGroup, member_count: u64) -> GroupView {
    GroupView {
        id: row.id,
        name: row.name,
        description: row.description,
        max_concurrent_vms: *row.max_concurrent_vms,
        priority: row.priority,
        member_count,
        created_by: row.created_by,
        created_at: *row.created_at,
    }
}

fn member_view(member: Member) -> MemberView {
    let row = member.row;
    MemberView {
        vm_context_id: row.vm_context_id,
        vm_name: member.vm_name,
        current_status: member.current_status,
        boot_order: row.boot_order,
        boot_delay_seconds: *row.boot_delay_seconds,
        priority: row.priority,
        enabled: row.enabled,
        added_by: row.added_by,
        added_at: *row.added_at,
    }
}
