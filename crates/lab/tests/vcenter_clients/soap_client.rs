//! Just enough of a SOAP client to send requests a library would not send.

use reqwest::header::{COOKIE, SET_COOKIE};

use super::site::{PASSWORD, Site, USER};

/// Requests to one site.
pub(crate) struct SoapClient {
    pub(crate) http: reqwest::Client,
    url: String,
    pub(crate) cookie: String,
}

/// An answer: HTTP status and body.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answered {
    /// Text of the first element of that name.
    pub(crate) fn text(&self, element: &str) -> &str {
        self.texts(element).into_iter().next().unwrap_or_else(|| panic!("no {element} in {}", self.body))
    }

    /// Texts of all elements of that name.
    pub(crate) fn texts(&self, element: &str) -> Vec<&str> {
        let (open, close) = (format!("<{element}"), format!("</{element}>"));
        self.body
            .split(&open)
            .skip(1)
            .filter(|rest| rest.starts_with(['>', ' ']))
            .filter_map(|rest| rest.split_once('>')?.1.split_once(&close))
            .map(|(text, _)| text)
            .collect()
    }

    /// Checks that this is a fault of that type, with HTTP 500.
    pub(crate) fn assert_fault(&self, type_name: &str) {
        assert_eq!(self.status, 500, "{}", self.body);
        assert!(self.body.contains(&format!("<{type_name}Fault xmlns=\"urn:vim25\"")), "{}", self.body);
    }
}

/// A client that trusts the site's authority and speaks TLS between the two versions.
pub(crate) fn http(site: &Site, versions: &[&'static rustls::SupportedProtocolVersion]) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    let authority = rustls::pki_types::CertificateDer::from_pem_slice(site.sim.ca_pem().as_bytes()).expect("PEM");
    roots.add(authority).expect("an authority");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(config).build().expect("a client")
}

impl SoapClient {
    /// A client without a session.
    pub(crate) fn new(site: &Site) -> Self {
        Self { http: http(site, rustls::ALL_VERSIONS), url: site.sim.url(), cookie: String::new() }
    }

    /// A client with a session.
    pub(crate) async fn logged_in(site: &Site) -> Self {
        let mut client = Self::new(site);
        client.login().await;
        client
    }

    /// Logs in and keeps the cookie.
    pub(crate) async fn login(&mut self) {
        let parameters = format!("<userName>{USER}</userName><password>{}</password>", escape(PASSWORD));
        let body = envelope("Login", "SessionManager", "SessionManager", &parameters);
        let answer = self.http.post(format!("{}/sdk", self.url)).body(body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let cookie = answer.headers()[SET_COOKIE].to_str().expect("a text");
        assert!(cookie.contains("HttpOnly"));
        self.cookie = cookie.split(';').next().expect("a pair").to_owned();
    }

    /// Sends a body as it is.
    pub(crate) async fn send(&self, body: String) -> Answered {
        let request = self
            .http
            .post(format!("{}/sdk", self.url))
            .header("SOAPAction", "urn:vim25/6.5")
            .header("Content-Type", "text/xml; charset=utf-8")
            .header(COOKIE, &self.cookie)
            .body(body);
        let answer = request.send().await.expect("an answer");
        Answered { status: answer.status().as_u16(), body: answer.text().await.expect("a text") }
    }

    /// Calls a method.
    pub(crate) async fn call(&self, method: &str, kind: &str, id: &str, parameters: &str) -> Answered {
        self.send(envelope(method, kind, id, parameters)).await
    }

    /// Starts a task and waits for its end with `WaitForUpdatesEx`; gives the last `info` seen.
    pub(crate) async fn task(&self, method: &str, kind: &str, id: &str, parameters: &str) -> Answered {
        let started = self.call(method, kind, id, parameters).await;
        assert_eq!(started.status, 200, "{}", started.body);
        let task = started.text("returnval").to_owned();
        let filter = format!(
            "<spec><propSet><type>Task</type><all>false</all><pathSet>info.state</pathSet></propSet>\
             <objectSet><obj type=\"Task\">{task}</obj></objectSet></spec><partialUpdates>false</partialUpdates>"
        );
        let collector = ("PropertyCollector", "propertyCollector");
        let filter = self.call("CreateFilter", collector.0, collector.1, &filter).await;
        let filter = filter.text("returnval").to_owned();
        let mut version = String::new();
        loop {
            let wait = format!("<version>{version}</version><options><maxWaitSeconds>30</maxWaitSeconds></options>");
            let update = self.call("WaitForUpdatesEx", collector.0, collector.1, &wait).await;
            assert!(update.body.contains("returnval"), "the task did not end: {}", update.body);
            version = update.text("version").to_owned();
            if matches!(update.text("val"), "success" | "error") {
                break;
            }
        }
        self.call("DestroyPropertyFilter", "PropertyFilter", &filter, "").await;
        self.call("Fetch", "Task", &task, "<prop>info</prop>").await
    }

    /// Takes a VM snapshot and gives its id.
    pub(crate) async fn take(&self, vm: &str, name: &str) -> String {
        let parameters = format!("<name>{name}</name><memory>false</memory><quiesce>false</quiesce>");
        let info = self.task("CreateSnapshot_Task", "VirtualMachine", vm, &parameters).await;
        assert_eq!(info.text("state"), "success", "{}", info.body);
        info.text("result").to_owned()
    }

    /// Removes a VM snapshot.
    pub(crate) async fn remove(&self, snapshot: &str) {
        let parameters = "<removeChildren>false</removeChildren><consolidate>true</consolidate>";
        let info = self.task("RemoveSnapshot_Task", "VirtualMachineSnapshot", snapshot, parameters).await;
        assert_eq!(info.text("state"), "success", "{}", info.body);
    }

    /// Turns change tracking on and makes it take effect.
    pub(crate) async fn track(&self, vm: &str) {
        let spec = "<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>";
        let info = self.task("ReconfigVM_Task", "VirtualMachine", vm, spec).await;
        assert_eq!(info.text("state"), "success", "{}", info.body);
        let stun = self.take(vm, "stun").await;
        self.remove(&stun).await;
    }

    /// Changed areas of the first page, as start and length.
    pub(crate) async fn areas(&self, vm: &str, snapshot: &str, key: i32, change_id: &str) -> Vec<(u64, u64)> {
        let answer = self.query(vm, snapshot, key, change_id).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let numbers = |name| answer.texts(name).into_iter().map(|text| text.parse::<u64>().expect("a number"));
        // The first `length` is that of the answer, the others those of the areas.
        numbers("start").zip(numbers("length").skip(1)).collect()
    }

    /// `QueryChangedDiskAreas` from the start of the disk.
    pub(crate) async fn query(&self, vm: &str, snapshot: &str, key: i32, change_id: &str) -> Answered {
        let parameters = format!(
            "<snapshot type=\"VirtualMachineSnapshot\">{snapshot}</snapshot><deviceKey>{key}</deviceKey>\
             <startOffset>0</startOffset><changeId>{change_id}</changeId>"
        );
        self.call("QueryChangedDiskAreas", "VirtualMachine", vm, &parameters).await
    }
}

/// Escapes text for XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The envelope of a call.
pub(crate) fn envelope(method: &str, kind: &str, id: &str, parameters: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"><s:Body><{method} xmlns=\"urn:vim25\">\
         <_this type=\"{kind}\">{id}</_this>{parameters}</{method}></s:Body></s:Envelope>"
    )
}
