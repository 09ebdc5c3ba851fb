//! A scripted server: checks what every request must have, keeps sessions, and leaves the answers to the test.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use vsphere::{ConnectionSpec, Trust, VimSession};

const XSI: &str = r#"xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance""#;
pub const USER: &str = "administrator@vsphere.local";
pub const PASSWORD: &str = "p<&\"'ss";

/// One request that is not about the session itself.
#[derive(Debug, Clone)]
pub struct Call {
    /// SOAP method, or `GET`/`HEAD`.
    pub method: String,
    /// SOAP body, or path and query.
    pub body: String,
    /// The `Range` header.
    pub range: Option<(u64, u64)>,
    /// The `Cookie` header.
    pub cookie: String,
}

impl Call {
    pub fn has(&self, part: &str) -> bool {
        self.body.contains(part)
    }
}

/// What the test answers.
pub enum Reply {
    /// Inside of the `…Response` element.
    Ok(String),
    /// A SOAP fault of that type.
    Fault(&'static str),
    /// As it stands.
    Http(Response<Body>),
}

type Script = dyn Fn(&Call) -> Reply + Send + Sync;

pub struct Server {
    pub address: SocketAddr,
    pub scheme: &'static str,
    pub state: Arc<State>,
    serving: JoinHandle<()>,
}

pub struct State {
    script: Box<Script>,
    sessions: Mutex<HashSet<String>>,
    pub logins: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    /// Plain HTTP on the loopback interface.
    pub async fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State::new(script);
        let router = router(&state);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, scheme: "http", state, serving }
    }

    /// HTTPS with that configuration.
    pub async fn start_tls(
        tls: tokio_rustls::rustls::ServerConfig,
        script: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State::new(script);
        let router = router(&state);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let executor = hyper_util::rt::TokioExecutor::new();
                    let _ = hyper_util::server::conn::auto::Builder::new(executor).serve_connection(io, service).await;
                });
            }
        });
        Self { address, scheme: "https", state, serving }
    }

    pub fn spec(&self) -> ConnectionSpec {
        self.trusting(Trust::SystemRoots)
    }

    pub fn trusting(&self, trust: Trust) -> ConnectionSpec {
        ConnectionSpec {
            url: format!("{}://{}/sdk", self.scheme, self.address),
            username: USER.to_owned(),
            password: model::Secret::new(PASSWORD),
            trust,
        }
    }

    pub async fn session(&self) -> VimSession {
        VimSession::connect(self.spec()).await.unwrap()
    }

    /// Forgets every session, as a server does after half an hour.
    pub fn expire(&self) {
        self.state.sessions.lock().unwrap().clear();
    }

    pub fn logins(&self) -> usize {
        self.state.logins.load(Ordering::SeqCst)
    }

    /// Every call so far that was not about the session.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    pub fn count(&self, method: &str) -> usize {
        self.calls().iter().filter(|call| call.method == method).count()
    }
}

impl State {
    fn new(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            sessions: Mutex::default(),
            logins: AtomicUsize::new(0),
            calls: Mutex::default(),
        })
    }

    fn answer(&self, method: &str, headers: &HeaderMap, body: String) -> Response<Body> {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let cookie = header("cookie");
        let is_known = self.sessions.lock().unwrap().contains(&cookie);
        let call = Call { method: method.to_owned(), body, range: range(&header("range")), cookie: cookie.clone() };
        match method {
            "RetrieveServiceContent" => return soap(method, SERVICE_CONTENT),
            "Login" => return self.log_in(&call),
            "Logout" => {
                self.sessions.lock().unwrap().remove(&cookie);
                return soap(method, "");
            }
            "RetrievePropertiesEx" if !is_known => return soap(method, LACKS_SESSION),
            "GET" | "HEAD" if !is_known && !cookie.starts_with("vmware_cgi_ticket=") => {
                return status(401, "");
            }
            "GET" | "HEAD" => {}
            _ if !is_known => return fault("NotAuthenticated"),
            _ => {}
        }
        self.calls.lock().unwrap().push(call.clone());
        match (self.script)(&call) {
            Reply::Ok(inner) => soap(method, &inner),
            Reply::Fault(kind) => fault(kind),
            Reply::Http(response) => response,
        }
    }

    fn log_in(&self, call: &Call) -> Response<Body> {
        let number = self.logins.fetch_add(1, Ordering::SeqCst) + 1;
        if !call.has("<userName>administrator@vsphere.local</userName><password>p&lt;&amp;\"'ss</password>") {
            return fault("InvalidLogin");
        }
        let cookie = format!("vmware_soap_session=\"52 {number};a%b\"");
        self.sessions.lock().unwrap().insert(cookie.clone());
        let mut response = soap("Login", "<returnval><key>52</key></returnval>");
        response.headers_mut().insert("set-cookie", format!("{cookie}; Path=/; HttpOnly; Secure; ").parse().unwrap());
        response
    }
}

fn router(state: &Arc<State>) -> Router {
    let state = Arc::clone(state);
    Router::new().fallback(move |request: Request<Body>| {
        let state = Arc::clone(&state);
        async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
            if parts.method != "POST" {
                let target = parts.uri.path_and_query().unwrap().to_string();
                return state.answer(parts.method.as_str(), &parts.headers, target);
            }
            assert_eq!(parts.uri.path(), "/sdk");
            assert_eq!(parts.headers["soapaction"], "\"urn:vim25/6.5\"");
            assert_eq!(parts.headers["content-type"], "text/xml; charset=utf-8");
            let method = body.split_once("Body><").unwrap().1.split([' ', '>']).next().unwrap().to_owned();
            state.answer(&method, &parts.headers, body)
        }
    })
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().unwrap(), last.parse().unwrap()))
}

pub fn status(code: u16, body: &str) -> Response<Body> {
    Response::builder().status(StatusCode::from_u16(code).unwrap()).body(Body::from(body.to_owned())).unwrap()
}

fn soap(method: &str, inner: &str) -> Response<Body> {
    let text = format!(
        r#"<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" {XSI}>
        <soapenv:Body><{method}Response xmlns="urn:vim25">{inner}</{method}Response></soapenv:Body></soapenv:Envelope>"#
    );
    status(200, &text)
}

fn fault(kind: &str) -> Response<Body> {
    let text = format!(
        r#"<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" {XSI}>
        <soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>x</faultstring><detail>
        <{kind}Fault xmlns="urn:vim25" xsi:type="{kind}"></{kind}Fault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>"#
    );
    status(500, &text)
}

/// A property of an answer.
pub fn prop(name: &str, value: &str) -> String {
    format!("<propSet><name>{name}</name><val>{value}</val></propSet>")
}

/// An object of an answer.
pub fn object(kind: &str, id: &str, props: &str) -> String {
    format!("<objects><obj type=\"{kind}\">{id}</obj>{props}</objects>")
}

const SERVICE_CONTENT: &str = r#"<returnval><rootFolder type="Folder">group-d1</rootFolder>
<propertyCollector type="PropertyCollector">propertyCollector</propertyCollector><viewManager type="ViewManager">ViewManager</viewManager>
<about><name>VMware vCenter Server</name><fullName>VMware vCenter Server 8.0.2 build-1</fullName><version>8.0.2</version><build>1</build>
<apiType>VirtualCenter</apiType><apiVersion>8.0.2.0</apiVersion><instanceUuid>uu-id</instanceUuid></about>
<sessionManager type="SessionManager">SessionManager</sessionManager><searchIndex type="SearchIndex">SearchIndex</searchIndex></returnval>"#;

const LACKS_SESSION: &str = r#"<returnval><objects><obj type="VirtualMachine">vm-1</obj><missingSet><path>name</path><fault>
<fault xsi:type="NotAuthenticated"><privilegeId>System.Read</privilegeId></fault><localizedMessage/></fault></missingSet></objects></returnval>"#;
