//! Container views and the search index.

use super::{Answer, Context};
use crate::vcenter::fault::Fault;
use crate::vcenter::schema::Schema;
use crate::vcenter::sessions::ContainerView;
use crate::vcenter::value::{MoRef, Value};

/// `CreateContainerView`.
pub(crate) fn create_container_view(context: &Context<'_>) -> Result<Answer, Fault> {
    let container = context.call.reference("container")?;
    if !context.sight().exists(&container) {
        return Err(Fault::not_found_reference(&container));
    }
    if !matches!(
        container.kind.as_str(),
        "Folder" | "Datacenter" | "ComputeResource" | "ClusterComputeResource" | "ResourcePool" | "HostSystem"
    ) {
        return Err(Fault::invalid_argument("container"));
    }
    let types: Vec<String> = context.call.body.children_named("type").map(|name| name.text.trim().to_owned()).collect();
    if types.iter().any(|name| Schema::get().fields(name).is_none()) {
        return Err(Fault::invalid_argument("type"));
    }
    let mut objects = context.session.objects.lock();
    if !objects.has_room() {
        return Err(Fault::system_error("too many views in one session"));
    }
    let id = format!("session[{}]{}", context.session.key, objects.number());
    let view = ContainerView { container, types, recursive: context.call.body.flag("recursive") };
    objects.views.insert(id.clone(), view);
    Ok(context.returns("ref", MoRef::new("ContainerView", id)))
}

/// `DestroyView`.
pub(crate) fn destroy_view(context: &Context<'_>) -> Answer {
    context.session.objects.lock().views.remove(&context.call.this.id);
    context.done()
}

/// An answer with a reference, or an empty one when nothing was found.
fn found(context: &Context<'_>, object: Option<MoRef>) -> Answer {
    match object {
        Some(object) => context.returns("ref", Value::Ref(object)),
        None => context.done(),
    }
}

/// `FindByInventoryPath`.
pub(crate) fn find_by_inventory_path(context: &Context<'_>) -> Result<Answer, Fault> {
    let path = context.call.text("inventoryPath")?;
    Ok(found(context, context.lab.inventory.by_path(path)))
}

/// `FindByUuid`, for VMs.
pub(crate) fn find_by_uuid(context: &Context<'_>) -> Result<Answer, Fault> {
    let body = &context.call.body;
    if !body.flag("vmSearch") {
        return Ok(found(context, None));
    }
    let uuid = context.call.text("uuid")?;
    Ok(found(context, context.lab.inventory.by_uuid(uuid, body.flag("instanceUuid"))))
}

/// `FindChild`.
pub(crate) fn find_child(context: &Context<'_>) -> Result<Answer, Fault> {
    let entity = context.call.reference("entity")?;
    let name = context.call.text("name")?;
    let inventory = &context.lab.inventory;
    let child = inventory
        .children(&entity)
        .into_iter()
        .find(|child| inventory.property(child, "name") == Some(Value::Text(name.to_owned())));
    Ok(found(context, child))
}
