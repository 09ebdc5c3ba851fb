//! Login, logout, the service content, and tickets for reading files from a host.

use super::{Answer, Caller, Context};
use crate::vcenter::fault::Fault;
use crate::vcenter::service_content;
use crate::vcenter::soap::{self, Call};
use crate::vcenter::state::Lab;
use crate::vcenter::value::Object;

/// `RetrieveServiceContent`: needs no login.
pub(crate) fn retrieve_service_content(lab: &Lab, call: &Call) -> Answer {
    soap::response(&call.method, "ServiceContent", &service_content::object(lab).into()).into()
}

/// `Login`.
pub(crate) fn login(lab: &Lab, caller: &Caller, call: &Call) -> Result<Answer, Fault> {
    let (user, password) = (call.text("userName")?, call.text("password")?);
    if user != lab.config.username || password != lab.config.password.expose() {
        tracing::debug!(user, "login refused");
        return Err(Fault::invalid_login());
    }
    let (cookie, session) = lab.sessions.open(user, &caller.user_agent, lab.now());
    let xml = soap::response(&call.method, "UserSession", &session.to_object().into());
    Ok(Answer { xml, cookie: Some(cookie) })
}

/// `Logout`.
pub(crate) fn logout(context: &Context<'_>) -> Answer {
    for collector in context.session.objects.lock().collectors.values() {
        collector.cancel();
    }
    context.lab.sessions.close(&context.session.key);
    context.done()
}

/// `SessionIsActive`, for the caller's own session.
pub(crate) fn is_active(context: &Context<'_>) -> Result<Answer, Fault> {
    let own = context.call.text("sessionID")? == context.session.key
        && context.call.text("userName")? == context.session.user;
    Ok(context.returns("boolean", own))
}

/// `AcquireGenericServiceTicket` for an HTTP GET of one URL.
pub(crate) fn acquire_ticket(context: &Context<'_>) -> Result<Answer, Fault> {
    let spec = context.call.body.child("spec").ok_or_else(|| Fault::invalid_argument("spec"))?;
    if spec.xsi_type.as_deref() != Some("SessionManagerHttpServiceRequestSpec") {
        return Err(Fault::invalid_argument("spec"));
    }
    let method = spec.text_of("method").unwrap_or("httpGet");
    if !matches!(method, "httpGet" | "httpHead") {
        return Err(Fault::invalid_argument("spec.method"));
    }
    let text = spec.text_of("url").ok_or_else(|| Fault::invalid_argument("spec.url"))?;
    let target = url::Url::parse(text).map_err(|_| Fault::invalid_argument("spec.url"))?;
    let ticket = Object::new("SessionManagerGenericServiceTicket")
        .with("id", context.lab.sessions.issue_ticket(text))
        .with_some("hostName", target.host_str())
        .with("sslThumbprint", context.lab.sha1_thumbprint.clone());
    Ok(context.returns("SessionManagerGenericServiceTicket", ticket))
}
