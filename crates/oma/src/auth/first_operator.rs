//! The first start: user `admin` and one token, whose text is written once to a file only the service's user can read.
//!
//! The text is written under another name first and takes its final name when the rows are there: a start that dies in
//! between is completed by the next one, and a token deleted later never comes back by itself.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use model::Secret;
use model::status::Role;
use runtime::private_file;
use store::Store;
use store::api_tokens::{self, NewToken};
use store::users;
use time::OffsetDateTime;

use crate::auth::token_hash;
use crate::error::OmaError;

/// Name of the first user.
const FIRST_USER: &str = "admin";
/// Name of its token.
const FIRST_TOKEN: &str = "operator.token";
/// Random bytes of a token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// Makes user, token and file if the hub has none.
///
/// # Errors
/// When the file or the rows cannot be written.
pub async fn create_first_operator(store: &Store, token_file: &Path) -> Result<(), OmaError> {
    if token_file.exists() {
        return Ok(());
    }
    let failed = |doing| move |source| OmaError::StateFile { doing, path: token_file.to_owned(), source };
    let fresh_file = token_file.with_extension("token.new");
    let admin = match users::by_name(store, FIRST_USER).await? {
        Some(admin) => admin,
        None => users::create(store, FIRST_USER, Role::Administrator).await?,
    };
    if api_tokens::of_user(store, &admin.id).await?.is_empty() {
        let token = new_token()?;
        write_private(&fresh_file, &token).map_err(failed("write"))?;
        let row = NewToken {
            user_id: admin.id,
            name: FIRST_TOKEN.to_owned(),
            token_hash: token_hash(token.expose()),
            role: Role::Administrator,
            expires_at: None,
        };
        api_tokens::create(store, &row).await?;
    } else if !is_valid(store, &fresh_file).await? {
        return Ok(());
    }
    rename(&fresh_file, token_file).map_err(failed("write"))?;
    tracing::info!(file = %token_file.display(), "made the first operator; its token is in this file");
    Ok(())
}

/// Whether a file that an earlier start left holds a token that counts.
async fn is_valid(store: &Store, fresh_file: &Path) -> Result<bool, OmaError> {
    let Ok(token) = Secret::from_file(fresh_file) else { return Ok(false) };
    let bearer = api_tokens::verify(store, &token_hash(token.expose()), OffsetDateTime::now_utc()).await?;
    Ok(bearer.is_some())
}

fn new_token() -> Result<Secret, OmaError> {
    let mut bytes = [0u8; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OmaError::Randomness)?;
    Ok(Secret::new(hex::encode(bytes)))
}

fn write_private(path: &Path, token: &Secret) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let line = Secret::new(format!("{}\n", token.expose()));
    private_file::write(path, line.expose().as_bytes())
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
