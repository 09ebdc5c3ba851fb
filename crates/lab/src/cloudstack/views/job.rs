//! The answer of queryAsyncJobResult and the rows of listAsyncJobs.

use super::super::entities::{AsyncJob, JobStatus};
use super::super::json::{Json, Object};
use super::super::world::World;
use super::date;

/// A job; `as_pending` hides that it is over already.
pub(crate) fn job(world: &World, job: &AsyncJob, as_pending: bool) -> Object {
    let status = if as_pending { JobStatus::Pending } else { job.status };
    let over = status != JobStatus::Pending;
    let result = job.result.as_ref().filter(|_| over);
    let account = world.catalogue.account(&job.account_id);
    let domain = super::super::catalogue::DOMAIN_NAME;
    Object::new()
        .put("accountid", &job.account_id)
        .maybe("account", account.map(|account| &account.name))
        .put("domainid", &world.catalogue.domain_id)
        .put("domainpath", domain)
        .maybe("userid", account.map(|account| &account.user_id))
        .put("cmd", java_class(&job.command, account.is_some_and(|account| account.root_admin)))
        .put("jobprocstatus", 0_u32)
        .put("jobresultcode", if over { u32::from(job.result_code) } else { 0 })
        .maybe("jobresulttype", result.map(|_| "object"))
        .maybe("jobresult", result.map(|text| Json::Raw(text.clone())))
        .put("jobinstancetype", &job.instance_type)
        .maybe("jobinstanceid", job.instance_id.as_ref())
        .put("managementserverid", &world.catalogue.server_id)
        .put("managementservername", "ms1")
        .put("created", date(job.created))
        .maybe("completed", job.completed.filter(|_| over).map(date))
        .put("jobid", &job.id)
        .put("jobstatus", status.number())
}

/// The Java class behind a command, as `cmd` shows it.
fn java_class(command: &str, by_admin: bool) -> String {
    let (package, class, has_admin_form) = match command {
        "deployVirtualMachine" => ("vm", "DeployVM", true),
        "startVirtualMachine" => ("vm", "StartVM", true),
        "stopVirtualMachine" => ("vm", "StopVM", true),
        "rebootVirtualMachine" => ("vm", "RebootVM", true),
        "destroyVirtualMachine" => ("vm", "DestroyVM", true),
        "addNicToVirtualMachine" => ("vm", "AddNicToVM", true),
        "createVolume" => ("volume", "CreateVolume", true),
        "attachVolume" => ("volume", "AttachVolume", true),
        "detachVolume" => ("volume", "DetachVolume", true),
        "resizeVolume" => ("volume", "ResizeVolume", true),
        "createSnapshot" => ("snapshot", "CreateSnapshot", false),
        "revertSnapshot" => ("snapshot", "RevertSnapshot", false),
        "deleteSnapshot" => ("snapshot", "DeleteSnapshot", false),
        "createVMSnapshot" => ("vmsnapshot", "CreateVMSnapshot", false),
        "deleteVMSnapshot" => ("vmsnapshot", "DeleteVMSnapshot", false),
        "revertToVMSnapshot" => ("vmsnapshot", "RevertToVMSnapshot", false),
        "createTags" => ("tag", "CreateTags", false),
        _ => ("tag", "DeleteTags", false),
    };
    if by_admin && has_admin_form {
        format!("org.apache.cloudstack.api.command.admin.{package}.{class}CmdByAdmin")
    } else {
        format!("org.apache.cloudstack.api.command.user.{package}.{class}Cmd")
    }
}
