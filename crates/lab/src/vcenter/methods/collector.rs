//! The property collector: reading, paging, filters and waiting for updates.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Context};
use crate::vcenter::fault::Fault;
use crate::vcenter::properties::object_content;
use crate::vcenter::soap;
use crate::vcenter::updates::Collector;
use crate::vcenter::value::{MoRef, write_element};

/// Longest wait when the client names none; a real server waits about as long as a session lives.
const DEFAULT_WAIT: Duration = Duration::from_secs(30 * 60);
/// Updates in one answer when the client names no limit.
const DEFAULT_UPDATES: usize = 1_000;

/// `Fetch`: one property of one object.
pub(crate) fn fetch(context: &Context<'_>) -> Result<Answer, Fault> {
    let path = context.call.text("prop")?;
    let Some(value) = context.sight().property(&context.call.this, path)? else { return Ok(context.done()) };
    let mut inner = String::new();
    write_element(&mut inner, "returnval", "anyType", &value);
    Ok(soap::raw_response("Fetch", &inner).into())
}

fn selected(context: &Context<'_>) -> Result<Vec<String>, Fault> {
    let mut contents = Vec::new();
    for spec in context.call.body.children_named("specSet") {
        let objects = context.sight().evaluate(spec)?;
        contents.extend(objects.iter().map(|(object, properties)| object_content(object, properties)));
    }
    Ok(contents)
}

/// `RetrieveProperties`: everything at once.
pub(crate) fn retrieve_all(context: &Context<'_>) -> Result<Answer, Fault> {
    let inner: String = selected(context)?.iter().map(|content| format!("<returnval>{content}</returnval>")).collect();
    Ok(soap::raw_response(&context.call.method, &inner).into())
}

/// `RetrievePropertiesEx`: the first page.
pub(crate) fn retrieve_page(context: &Context<'_>) -> Result<Answer, Fault> {
    let options = context.call.body.child("options");
    let asked = options.and_then(|options| options.number("maxObjects"));
    if asked.is_some_and(|limit| limit < 1) {
        return Err(Fault::invalid_argument("options.maxObjects"));
    }
    let limit = asked.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    page(context, selected(context)?, limit.min(context.lab.config.page_objects))
}

/// `ContinueRetrievePropertiesEx`: the next page; a token is good once.
pub(crate) fn continue_page(context: &Context<'_>) -> Result<Answer, Fault> {
    let token = context.call.text("token")?;
    let rest = context.session.objects.lock().pages.remove(token);
    let rest = rest.ok_or_else(|| Fault::invalid_argument("token"))?;
    let limit =
        token.rsplit(':').next().and_then(|limit| limit.parse().ok()).unwrap_or(context.lab.config.page_objects);
    page(context, rest, limit)
}

/// `CancelRetrievePropertiesEx`.
pub(crate) fn cancel_page(context: &Context<'_>) -> Result<Answer, Fault> {
    let token = context.call.text("token")?;
    let known = context.session.objects.lock().pages.remove(token);
    known.map(|_| context.done()).ok_or_else(|| Fault::invalid_argument("token"))
}

fn page(context: &Context<'_>, mut contents: Vec<String>, limit: usize) -> Result<Answer, Fault> {
    if contents.is_empty() {
        return Ok(context.done());
    }
    let limit = limit.max(1);
    let rest = contents.split_off(limit.min(contents.len()));
    let mut inner = "<returnval>".to_owned();
    if !rest.is_empty() {
        let mut objects = context.session.objects.lock();
        if !objects.has_room() {
            return Err(Fault::system_error("too many unfinished pages in one session"));
        }
        let token = format!("token{}:{limit}", objects.number());
        inner.push_str(&format!("<token>{token}</token>"));
        objects.pages.insert(token, rest);
    }
    contents.iter().for_each(|content| inner.push_str(&format!("<objects>{content}</objects>")));
    inner.push_str("</returnval>");
    Ok(soap::raw_response(&context.call.method, &inner).into())
}

/// `CreatePropertyCollector`.
pub(crate) fn create(context: &Context<'_>) -> Answer {
    let mut objects = context.session.objects.lock();
    let id = format!("session[{}]{}", context.session.key, objects.number());
    objects.collectors.insert(id.clone(), Arc::new(Collector::default()));
    context.returns("ref", MoRef::new("PropertyCollector", id))
}

/// `DestroyPropertyCollector`; the default one cannot be destroyed.
pub(crate) fn destroy(context: &Context<'_>) -> Result<Answer, Fault> {
    let removed = context.session.objects.lock().collectors.remove(&context.call.this.id);
    match removed {
        Some(collector) => {
            collector.cancel();
            Ok(context.done())
        }
        None => Err(Fault::not_supported()),
    }
}

/// The collector the call is on; the default one is made when first used.
fn collector(context: &Context<'_>) -> Arc<Collector> {
    let mut objects = context.session.objects.lock();
    Arc::clone(objects.collectors.entry(context.call.this.id.clone()).or_default())
}

/// `CreateFilter`.
pub(crate) fn create_filter(context: &Context<'_>) -> Result<Answer, Fault> {
    let spec = context.call.body.child("spec").ok_or_else(|| Fault::invalid_argument("spec"))?;
    context.sight().evaluate(spec)?;
    let number = context.session.objects.lock().number();
    let id = format!("session[{}]filter-{number}", context.session.key);
    collector(context).add_filter(id.clone(), spec.clone())?;
    context.lab.touch();
    Ok(context.returns("ref", MoRef::new("PropertyFilter", id)))
}

/// `DestroyPropertyFilter`.
pub(crate) fn destroy_filter(context: &Context<'_>) -> Result<Answer, Fault> {
    let collectors: Vec<_> = context.session.objects.lock().collectors.values().map(Arc::clone).collect();
    if collectors.iter().any(|collector| collector.remove_filter(&context.call.this.id)) {
        Ok(context.done())
    } else {
        Err(Fault::not_found_reference(&context.call.this))
    }
}

/// `CancelWaitForUpdates`.
pub(crate) fn cancel_wait(context: &Context<'_>) -> Answer {
    collector(context).cancel();
    context.done()
}

/// `WaitForUpdatesEx`, and its two older forms: answers when something changed, or with nothing at the deadline.
pub(crate) async fn wait(context: &Context<'_>) -> Result<Answer, Fault> {
    let body = &context.call.body;
    let options = body.child("options");
    let seconds = options.and_then(|options| options.number("maxWaitSeconds"));
    let limit = options.and_then(|options| options.number("maxObjectUpdates"));
    let wait = match (context.call.method.as_str(), seconds) {
        ("CheckForUpdates", _) => Duration::ZERO,
        (_, Some(seconds)) => {
            Duration::from_secs(seconds.try_into().map_err(|_| Fault::invalid_argument("maxWaitSeconds"))?)
        }
        (_, None) => DEFAULT_WAIT,
    };
    let limit =
        limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0).unwrap_or(DEFAULT_UPDATES);
    let version = body.text_of("version").unwrap_or_default();
    let collector = collector(context);
    let cancelled = collector.cancelled();
    let deadline = Instant::now() + wait;
    let mut changes = context.lab.changes.subscribe();
    loop {
        changes.mark_unchanged();
        if let Some(updates) = collector.poll(&context.sight(), version, limit)? {
            return Ok(soap::raw_response(&context.call.method, &updates).into());
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Err(Fault::request_canceled()) },
            () = tokio::time::sleep_until(deadline) => return Ok(context.done()),
            () = cancelled.cancelled() => return Err(Fault::request_canceled()),
            () = context.lab.shutdown.cancelled() => return Err(Fault::request_canceled()),
        }
    }
}
