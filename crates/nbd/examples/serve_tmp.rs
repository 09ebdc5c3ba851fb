use block::*;
use nbd::server::*;
use std::sync::Arc;
struct X(Arc<dyn BlockDevice>);
#[async_trait::async_trait]
impl ExportSource for X {
    async fn open(&self, _: &str) -> Result<OpenExport, OpenRefused> {
        Ok(OpenExport::new(self.0.clone()))
    }
    async fn list(&self) -> Vec<ExportListing> {
        vec![]
    }
}
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let d: Arc<dyn BlockDevice> = if a[2] == "mem" {
        Arc::new(MemoryDevice::new(2 << 30))
    } else {
        Arc::new(FileDevice::open(a[2].as_ref(), false).unwrap())
    };
    let _ = std::fs::remove_file(&a[1]);
    let l = tokio::net::UnixListener::bind(&a[1]).unwrap();
    let e: Arc<dyn ExportSource> = Arc::new(X(d));
    let mut o = ServeOptions::default();
    if let Ok(w) = std::env::var("WORKERS") {
        o.limits.workers = w.parse().unwrap();
    }
    loop {
        let (r, w) = l.accept().await.unwrap().0.into_split();
        let (e, o) = (e.clone(), o.clone());
        tokio::spawn(async move {
            let r = serve_halves(r, w, e, o).await;
            eprintln!("{r:?}");
        });
    }
}
