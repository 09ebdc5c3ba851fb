//! The first start: user `admin` and one token, whose text is written once to a file only the service's user can read.
//!
//! The file comes first and the rows follow from it, so a start that dies in between is completed by the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use model::Secret;
use model::status::Role;
use store::Store;

use crate::auth::token_hash;
use crate::error::OmaError;

/// Name of the first user.
const FIRST_USER: &str = "admin";
/// Name of its token.
const FIRST_TOKEN: &str = "operator.token";
/// Random bytes of a token: 256 bits.
const TOKEN_BYTES: usize = 32;
/// The token's file holds a secret.
const MODE_PRIVATE: u32 = 0o600;

/// Makes user, token and file if there is no user `admin` yet.
///
/// # Errors
/// When the file or the rows cannot be written.
pub async fn create_first_operator(store: &Store, token_file: &Path) -> Result<(), OmaError> {
    if store::users::by_name(store, FIRST_USER).await?.is_some() {
        return Ok(());
    }
    let token = match Secret::from_file(token_file) {
        Ok(token) => token,
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_new_token(token_file)?,
        Err(source) => return Err(OmaError::StateFile { doing: "read", path: token_file.to_owned(), source }),
    };
    let hash = token_hash(token.expose());
    store::users::create_with_token(store, FIRST_USER, Role::Administrator, FIRST_TOKEN, &hash).await?;
    tracing::info!(file = %token_file.display(), "made the first operator; its token is in this file");
    Ok(())
}

fn write_new_token(path: &Path) -> Result<Secret, OmaError> {
    let mut bytes = [0u8; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OmaError::Randomness)?;
    let token = Secret::new(hex::encode(bytes));
    replace(path, token.expose()).map_err(|source| OmaError::StateFile {
        doing: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(token)
}

/// Writes a file beside the final one and renames it: whoever reads sees all of it or none.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = path.with_extension("token.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE_PRIVATE).open(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_token_is_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.token");
        let token = write_new_token(&path).unwrap();
        assert_eq!(Secret::from_file(&path).unwrap(), token);
        assert_eq!(token.expose().len(), 2 * TOKEN_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE_PRIVATE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
