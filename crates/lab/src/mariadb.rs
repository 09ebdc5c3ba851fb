//! A private MariaDB server on a temporary data folder, for tests and demonstrations. Never the system's service.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use store::{DatabaseConfig, MariaDbTls};
use tempfile::TempDir;

use crate::ports::ReservedPort;

/// How long the server may take to answer; a loaded machine with two cores needs seconds.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How often a starting server is asked whether it answers.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How many ports are tried: another program may take a free port before the server does.
const PORT_ATTEMPTS: usize = 5;
/// The user of [`MariaDbServer::database`].
const USERNAME: &str = "migratekit";
/// Its password; the server listens on the loopback only and lives as long as its test.
const PASSWORD: &str = "not-a-secret";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum MariaDbError {
    /// It is not installed.
    #[error("{program} not found: apt-get install mariadb-server")]
    NotInstalled {
        /// What was looked for.
        program: &'static str,
    },
    /// A file or process could not be made.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ended in an error.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it wrote.
        output: String,
    },
    /// The server never answered.
    #[error("mariadbd did not answer within {} s: {log}", START_DEADLINE.as_secs())]
    Silent {
        /// End of its log.
        log: String,
    },
}

/// Certificates for a server that speaks TLS.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// CA certificates clients trust, PEM.
    pub ca_file: PathBuf,
    /// The server's certificate (not the CA itself), PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// A running server; stopped and forgotten when dropped.
#[derive(Debug)]
pub struct MariaDbServer {
    child: Child,
    folder: TempDir,
    port: ReservedPort,
    tls: MariaDbTls,
}

impl MariaDbServer {
    /// Starts a server on 127.0.0.1, with TLS when certificates are given.
    ///
    /// # Errors
    /// MariaDB is not installed or does not start.
    pub fn start(tls: Option<&ServerTls>) -> Result<Self, MariaDbError> {
        let folder = tempfile::Builder::new().prefix("mariadb-").tempdir().map_err(io_error("make a data folder"))?;
        install(folder.path())?;
        fs::write(folder.path().join("password"), PASSWORD).map_err(io_error("write the password file"))?;
        let mut last = MariaDbError::Silent { log: String::new() };
        for _ in 0..PORT_ATTEMPTS {
            let port = ReservedPort::take().map_err(io_error("reserve a port"))?;
            let mut child = spawn(folder.path(), port.number(), tls)?;
            match wait_until_it_answers(&mut child, folder.path()) {
                Ok(()) => {
                    let tls = tls.map_or(MariaDbTls::Disabled, |files| MariaDbTls::VerifyIdentity {
                        ca_file: files.ca_file.clone(),
                    });
                    return Ok(Self { child, folder, port, tls });
                }
                Err(error) => last = error,
            }
            end(&mut child);
        }
        Err(last)
    }

    /// Makes an empty database of its own for the caller and says how to reach it.
    ///
    /// # Errors
    /// The server refuses.
    pub fn database(&self, name: &str) -> Result<DatabaseConfig, MariaDbError> {
        let sql = format!(
            "CREATE DATABASE `{name}`; CREATE USER IF NOT EXISTS '{USERNAME}'@'%' IDENTIFIED BY '{PASSWORD}'; \
             GRANT ALL ON `{name}`.* TO '{USERNAME}'@'%'"
        );
        self.execute(&sql)?;
        Ok(DatabaseConfig::MariaDb {
            host: "127.0.0.1".to_owned(),
            port: self.port.number(),
            database: name.to_owned(),
            username: USERNAME.to_owned(),
            password_file: self.folder.path().join("password"),
            tls: self.tls.clone(),
        })
    }

    /// Runs statements as the server's administrator and returns what they print, tab-separated.
    ///
    /// # Errors
    /// The server refuses them.
    pub fn execute(&self, sql: &str) -> Result<String, MariaDbError> {
        let output = client(self.folder.path(), sql)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(MariaDbError::Failed { program: "mariadb", output: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    /// The server's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for MariaDbServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The data is thrown away, so nothing is lost by a kill.
fn end(child: &mut Child) {
    // An error means that it is dead already.
    let _ = child.kill();
    let _ = child.wait();
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> MariaDbError {
    move |source| MariaDbError::Io { doing, source }
}

/// Like [`io_error`], but a missing program is said by the package it comes from.
fn spawn_error(program: &'static str) -> impl Fn(io::Error) -> MariaDbError {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => MariaDbError::NotInstalled { program },
        _ => MariaDbError::Io { doing: "start a program of MariaDB", source },
    }
}

/// `mariadbd` lies in a folder that is not in everyone's PATH.
fn server_program() -> &'static str {
    const USUAL: &str = "/usr/sbin/mariadbd";
    if Path::new(USUAL).exists() { USUAL } else { "mariadbd" }
}

/// Temporary tables of a server: a starting one removes those it finds in its folder, so no two may share one.
fn temporary_folder(folder: &Path) -> PathBuf {
    folder.join("tmp")
}

fn install(folder: &Path) -> Result<(), MariaDbError> {
    fs::create_dir(temporary_folder(folder)).map_err(io_error("make a folder for temporary tables"))?;
    let output = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .args(["--user=root", "--innodb-log-file-size=8M", "--innodb-flush-method=nosync"])
        .arg(format!("--tmpdir={}", temporary_folder(folder).display()))
        .stdin(Stdio::null())
        .output()
        .map_err(spawn_error("mariadb-install-db"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let output = String::from_utf8_lossy(&text).into_owned();
    Err(MariaDbError::Failed { program: "mariadb-install-db", output })
}

fn spawn(folder: &Path, port: u16, tls: Option<&ServerTls>) -> Result<Child, MariaDbError> {
    let log = File::create(folder.join("log")).map_err(io_error("make the log file"))?;
    let mut command = Command::new(server_program());
    command
        .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .arg(format!("--tmpdir={}", temporary_folder(folder).display()))
        .arg(format!("--port={port}"))
        // Small and fast: the data lives as long as the test.
        .args(["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"])
        .args(["--skip-log-bin", "--innodb-flush-method=nosync", "--performance-schema=OFF", "--max-connections=200"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if let Some(tls) = tls {
        command
            .arg(format!("--ssl-ca={}", tls.ca_file.display()))
            .arg(format!("--ssl-cert={}", tls.certificate_file.display()))
            .arg(format!("--ssl-key={}", tls.key_file.display()))
            .args(["--require-secure-transport=ON", "--tls-version=TLSv1.2,TLSv1.3"]);
    }
    command.spawn().map_err(spawn_error("mariadbd"))
}

fn client(folder: &Path, sql: &str) -> Result<Output, MariaDbError> {
    Command::new("mariadb")
        .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--raw", "--skip-ssl"])
        .arg(format!("--socket={}", folder.join("socket").display()))
        .args(["--execute", sql])
        .stdin(Stdio::null())
        .output()
        .map_err(spawn_error("mariadb"))
}

fn wait_until_it_answers(child: &mut Child, folder: &Path) -> Result<(), MariaDbError> {
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if folder.join("socket").exists() && client(folder, "SELECT 1")?.status.success() {
            return Ok(());
        }
        if child.try_wait().map_err(io_error("watch mariadbd"))?.is_some() {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Err(MariaDbError::Silent { log: fs::read_to_string(folder.join("log")).unwrap_or_default() })
}
