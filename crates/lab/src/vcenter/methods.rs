//! The vim25 methods: who may call them, and which file answers.

pub(crate) mod changed_areas;
pub(crate) mod collector;
pub(crate) mod reconfigure;
pub(crate) mod search;
pub(crate) mod session;
pub(crate) mod vm;

use std::sync::Arc;

use super::fault::Fault;
use super::properties::{Sight, missing_content};
use super::schema::Schema;
use super::sessions::Session;
use super::soap::{self, Call};
use super::state::Lab;
use super::value::Value;

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The SOAP envelope.
    pub(crate) xml: String,
    /// A cookie value to set.
    pub(crate) cookie: Option<String>,
}

impl From<String> for Answer {
    fn from(xml: String) -> Self {
        Self { xml, cookie: None }
    }
}

/// What a method may use: the laboratory, the caller's session, the call.
pub(crate) struct Context<'a> {
    pub(crate) lab: &'a Arc<Lab>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) call: &'a Call,
}

impl Context<'_> {
    /// The world as the caller sees it.
    pub(crate) fn sight(&self) -> Sight<'_> {
        Sight { lab: self.lab, session: self.session }
    }

    /// An answer with `returnval` elements of the declared type.
    pub(crate) fn returns(&self, declared: &str, value: impl Into<Value>) -> Answer {
        soap::response(&self.call.method, declared, &value.into()).into()
    }

    /// The answer of a void method.
    pub(crate) fn done(&self) -> Answer {
        soap::raw_response(&self.call.method, "").into()
    }
}

/// Who asks, as far as HTTP tells.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// Value of the session cookie.
    pub(crate) cookie: Option<String>,
    /// `User-Agent`.
    pub(crate) user_agent: String,
}

/// Answers a call.
///
/// # Errors
/// The fault the client is to get.
pub(crate) async fn answer(lab: &Arc<Lab>, caller: &Caller, call: &Call) -> Result<Answer, Fault> {
    let Some(method) = Schema::get().method(&call.method) else {
        return Err(Fault::method_not_found(&call.this, &call.method));
    };
    if !Schema::get().is_a(&call.this.kind, &method.receiver) {
        return Err(Fault::method_not_found(&call.this, &call.method));
    }
    soap::check_shape(call)?;
    match call.method.as_str() {
        "RetrieveServiceContent" => return Ok(session::retrieve_service_content(lab, call)),
        "Login" => return session::login(lab, caller, call),
        _ => {}
    }
    let session = caller.cookie.as_deref().and_then(|cookie| lab.sessions.find(cookie, true, lab.now()));
    let Some(session) = session else {
        return unauthenticated(lab, call);
    };
    let context = Context { lab, session: &session, call };
    if !context.sight().exists(&call.this) && call.this.kind != "PropertyFilter" {
        return Err(Fault::not_found_reference(&call.this));
    }
    dispatch(&context).await
}

async fn dispatch(context: &Context<'_>) -> Result<Answer, Fault> {
    match context.call.method.as_str() {
        "CurrentTime" => Ok(context.returns("dateTime", context.lab.now())),
        "Logout" => Ok(session::logout(context)),
        "SessionIsActive" => session::is_active(context),
        "AcquireGenericServiceTicket" => session::acquire_ticket(context),
        "CreateContainerView" => search::create_container_view(context),
        "DestroyView" => Ok(search::destroy_view(context)),
        "FindByInventoryPath" => search::find_by_inventory_path(context),
        "FindByUuid" => search::find_by_uuid(context),
        "FindChild" => search::find_child(context),
        "Fetch" => collector::fetch(context),
        "RetrieveProperties" => collector::retrieve_all(context),
        "RetrievePropertiesEx" => collector::retrieve_page(context),
        "ContinueRetrievePropertiesEx" => collector::continue_page(context),
        "CancelRetrievePropertiesEx" => collector::cancel_page(context),
        "CreatePropertyCollector" => Ok(collector::create(context)),
        "DestroyPropertyCollector" => collector::destroy(context),
        "CreateFilter" => collector::create_filter(context),
        "DestroyPropertyFilter" => collector::destroy_filter(context),
        "WaitForUpdatesEx" | "WaitForUpdates" | "CheckForUpdates" => collector::wait(context).await,
        "CancelWaitForUpdates" => Ok(collector::cancel_wait(context)),
        "QueryChangedDiskAreas" => changed_areas::query(context).await,
        _ => vm::dispatch(context),
    }
}

/// A call without a live session: a fault, or for property reads what vcsim does, if configured.
fn unauthenticated(lab: &Lab, call: &Call) -> Result<Answer, Fault> {
    let reads = matches!(call.method.as_str(), "RetrievePropertiesEx" | "RetrieveProperties");
    if !(reads && lab.config.unauthenticated_reads_are_missing_sets) {
        return Err(Fault::not_authenticated(&call.this));
    }
    let spec = call.body.child("specSet").ok_or_else(|| Fault::invalid_argument("specSet"))?;
    let root = spec.child("objectSet").and_then(|set| set.child("obj")).and_then(soap::reference);
    let root = root.unwrap_or_else(|| lab.inventory.root());
    let paths: Vec<String> = spec
        .child("propSet")
        .into_iter()
        .flat_map(|set| set.children_named("pathSet"))
        .map(|path| path.text.clone())
        .collect();
    let content = missing_content(&root, &paths, &Fault::not_authenticated(&root));
    let inner = match call.method.as_str() {
        "RetrieveProperties" => format!("<returnval>{content}</returnval>"),
        _ => format!("<returnval><objects>{content}</objects></returnval>"),
    };
    Ok(soap::raw_response(&call.method, &inner).into())
}
