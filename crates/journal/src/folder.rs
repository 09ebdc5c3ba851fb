//! Where journals and ledgers are: `<folder>/<export>/<job>.index` and, of a journal, `<job>.data` beside it.
//!
//! An index whose data is missing is damaged; data without an index is nothing. Hence the order: the data is made before
//! the index and deleted after it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::JournalError;
use crate::index::{Kind, ReplayError, Run, Tail, is_generation, read_header, replay};
use crate::journal::{Gathered, Journal};
use crate::log::{Ledger, Log};
use crate::medium::Medium;

/// The folder's name within the state folder.
const FOLDER: &str = "journals";
/// Mode of the folders: journals hold what the disks hold.
const FOLDER_MODE: u32 = 0o700;
/// Mode of the files.
const FILE_MODE: u32 = 0o600;
const INDEX: &str = "index";
const DATA: &str = "data";
/// Longest name of an export or job, in characters.
const MAX_NAME_CHARS: usize = 128;

/// How much of a journal's files belongs to a recovery point, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Of the index.
    pub index_bytes: u64,
    /// Of the data.
    pub data_bytes: u64,
}

/// The folder of all journals of a hub.
#[derive(Debug, Clone)]
pub struct JournalFolder {
    path: PathBuf,
}

impl JournalFolder {
    /// The folder within a state folder, made when it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let path = state_dir.join(FOLDER);
        make_folder(&path)?;
        Ok(Self { path })
    }

    /// The exports that have files here, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn exports(&self) -> Result<Vec<String>, JournalError> {
        names_in(&self.path)
    }

    /// The jobs that have files for an export, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn jobs(&self, export: &str) -> Result<Vec<String>, JournalError> {
        let names = names_in(&self.folder_of(export)?)?;
        let job = |name: String| name.rsplit_once('.').map(|(job, _end)| job.to_owned());
        let mut jobs: Vec<String> = names.into_iter().filter_map(job).collect();
        jobs.dedup();
        Ok(jobs)
    }

    /// Room that the files of all exports take, in bytes.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn bytes(&self) -> Result<u64, JournalError> {
        let mut bytes = 0;
        for export in self.exports()? {
            let folder = self.path.join(export);
            for name in names_in(&folder)? {
                // One that is deleted meanwhile takes none.
                bytes += fs::metadata(folder.join(name)).map_or(0, |found| found.len());
            }
        }
        Ok(bytes)
    }

    /// Whose run the files of a job are; `None` when there are none.
    ///
    /// # Errors
    /// The index is damaged or another job's; it cannot be read.
    pub fn run_of(&self, export: &str, job: &str) -> Result<Option<Run>, JournalError> {
        let path = self.file_of(export, job, INDEX)?;
        let Some(index) = open_file(&path, false)? else { return Ok(None) };
        let (run, _tail) = read_header(&index).map_err(unreadable(&path))?;
        check_job(&path, &run, job)?;
        Ok(Some(run))
    }

    /// Begins a journal, in place of whatever files its job has.
    ///
    /// # Errors
    /// It is the run of a ledger, its names are unusable, or its files cannot be made.
    pub fn begin_journal(&self, export: &str, run: &Run) -> Result<Journal, JournalError> {
        let (path, index, tail) = self.begin(export, run, Kind::Journal)?;
        let data_path = self.file_of(export, &run.job_id, DATA)?;
        let data = open_file(&data_path, true)?.ok_or_else(|| missing(&data_path))?;
        Ok(Journal::active(&path, run.clone(), (index, Box::new(data)), tail, Gathered::default()))
    }

    /// Begins a ledger, in place of whatever files its job has.
    ///
    /// # Errors
    /// It is the run of a journal, its names are unusable, or its file cannot be made.
    pub fn begin_ledger(&self, export: &str, run: &Run) -> Result<Ledger, JournalError> {
        let (_path, index, tail) = self.begin(export, run, Kind::Ledger)?;
        Ok(Ledger { log: Log::new(run.clone(), index, tail, Gathered::default().durable) })
    }

    fn begin(&self, export: &str, run: &Run, kind: Kind) -> Result<(PathBuf, Box<dyn Medium>, Tail), JournalError> {
        let unusable = || JournalError::Name { name: format!("{} {}", run.job_id, run.generation) };
        let header = run.encode().filter(|_| is_generation(&run.generation)).ok_or_else(unusable)?;
        let path = self.file_of(export, &run.job_id, INDEX)?;
        if run.kind != kind {
            return Err(JournalError::Other { path, reason: "it is of the other kind".to_owned() });
        }
        self.forget(export, &run.job_id)?;
        let folder = self.folder_of(export)?;
        make_folder(&folder)?;
        if kind == Kind::Journal {
            let data_path = self.file_of(export, &run.job_id, DATA)?;
            make_file(&data_path)?;
        }
        sync_folder(&folder)?;
        let index = make_file(&path)?;
        let written = index.write_at(&header, 0).and_then(|()| index.sync());
        written.map_err(JournalError::file("write", &path))?;
        sync_folder(&folder)?;
        sync_folder(&self.path)?;
        Ok((path, Box::new(index), Tail::after_header(&header)))
    }

    /// Goes on with the journal of a job where its last barrier left it; everything after that is cut off.
    ///
    /// # Errors
    /// There is none ([`JournalError::File`], not found), it is a ledger or damaged, or its files cannot be used.
    pub fn resume_journal(&self, export: &str, job: &str) -> Result<Journal, JournalError> {
        let path = self.file_of(export, job, INDEX)?;
        let index = open_file(&path, true)?.ok_or_else(|| missing(&path))?;
        let data_path = self.file_of(export, job, DATA)?;
        let Some(data) = open_file(&data_path, true)? else {
            return Err(JournalError::Damaged { path, reason: "its data is missing".to_owned() });
        };
        let data_length = data.length().map_err(JournalError::file("look at", &data_path))?;
        let (run, tail, gathered) = gather(&path, &index, u64::MAX, data_length)?;
        check_run(&path, &run, job, Kind::Journal)?;
        cut(&data_path, &data, tail.data_bytes)?;
        cut(&path, &index, tail.index_bytes)?;
        Ok(Journal::active(&path, run, (Box::new(index), Box::new(data)), tail, gathered))
    }

    /// Goes on with the ledger of a job where its last barrier left it. The volume was flushed before each of them.
    ///
    /// # Errors
    /// As for [`resume_journal`](Self::resume_journal).
    pub fn resume_ledger(&self, export: &str, job: &str) -> Result<Ledger, JournalError> {
        let path = self.file_of(export, job, INDEX)?;
        let index = open_file(&path, true)?.ok_or_else(|| missing(&path))?;
        let (run, tail, gathered) = gather(&path, &index, u64::MAX, 0)?;
        check_run(&path, &run, job, Kind::Ledger)?;
        cut(&path, &index, tail.index_bytes)?;
        Ok(Ledger { log: Log::new(run, Box::new(index), tail, gathered.durable) })
    }

    /// A committed journal, for reading: exactly what belongs to its recovery point.
    ///
    /// # Errors
    /// It is damaged, shorter than it was committed or another one; its files are missing or cannot be read.
    pub fn committed(&self, export: &str, job: &str, lengths: Lengths) -> Result<Journal, JournalError> {
        let path = self.file_of(export, job, INDEX)?;
        let data_path = self.file_of(export, job, DATA)?;
        let (Some(index), Some(data)) = (open_file(&path, false)?, open_file(&data_path, false)?) else {
            return Err(JournalError::Damaged {
                path,
                reason: "it was committed, and its files are missing".to_owned(),
            });
        };
        let data_length = data.length().map_err(JournalError::file("look at", &data_path))?;
        let (run, tail, gathered) = gather(&path, &index, lengths.index_bytes, data_length)?;
        check_run(&path, &run, job, Kind::Journal)?;
        let whole = Lengths { index_bytes: tail.index_bytes, data_bytes: tail.data_bytes };
        if whole != lengths {
            let (index, data) = (lengths.index_bytes, lengths.data_bytes);
            let reason = format!(
                "{index} bytes of index and {data} of data were committed, {} and {} can be read",
                whole.index_bytes, whole.data_bytes
            );
            return Err(JournalError::Damaged { path, reason });
        }
        Ok(Journal::committed(&path, run, Box::new(data), gathered))
    }

    /// Deletes the files of a job; that they are gone already is no error.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn forget(&self, export: &str, job: &str) -> Result<(), JournalError> {
        let folder = self.folder_of(export)?;
        for end in [INDEX, DATA] {
            let path = self.file_of(export, job, end)?;
            match fs::remove_file(&path) {
                Ok(()) => sync_folder(&folder)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(JournalError::file("delete", &path)(error)),
            }
        }
        // Other jobs may have files there; then it stays.
        let _ = fs::remove_dir(&folder);
        Ok(())
    }

    fn folder_of(&self, export: &str) -> Result<PathBuf, JournalError> {
        Ok(self.path.join(checked(export)?))
    }

    fn file_of(&self, export: &str, job: &str, end: &str) -> Result<PathBuf, JournalError> {
        Ok(self.folder_of(export)?.join(format!("{}.{end}", checked(job)?)))
    }
}

/// A name that is one part of a path, and not a hidden one.
fn checked(name: &str) -> Result<&str, JournalError> {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=MAX_NAME_CHARS).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(usual);
    if fits { Ok(name) } else { Err(JournalError::Name { name: name.chars().take(MAX_NAME_CHARS).collect() }) }
}

fn gather(path: &Path, index: &File, limit: u64, data_length: u64) -> Result<(Run, Tail, Gathered), JournalError> {
    let mut gathered = Gathered::default();
    let read = replay(index, limit, data_length, |entry| gathered.add(entry));
    let (run, tail) = read.map_err(unreadable(path))?;
    Ok((run, tail, gathered))
}

fn unreadable(path: &Path) -> impl Fn(ReplayError) -> JournalError + '_ {
    move |error| match error {
        ReplayError::Io(source) => JournalError::file("read", path)(source),
        ReplayError::Header(reason) => JournalError::Damaged { path: path.to_owned(), reason },
    }
}

fn check_job(path: &Path, run: &Run, job: &str) -> Result<(), JournalError> {
    if run.job_id == job {
        return Ok(());
    }
    Err(JournalError::Other { path: path.to_owned(), reason: format!("it is of the job {}", run.job_id) })
}

fn check_run(path: &Path, run: &Run, job: &str, kind: Kind) -> Result<(), JournalError> {
    check_job(path, run, job)?;
    if run.kind == kind {
        return Ok(());
    }
    Err(JournalError::Other { path: path.to_owned(), reason: "it is of the other kind".to_owned() })
}

/// Cuts off what does not count, and makes what counts durable: a dead process may have left it in the cache alone.
fn cut(path: &Path, file: &File, length: u64) -> Result<(), JournalError> {
    file.set_length(length).and_then(|()| file.sync()).map_err(JournalError::file("cut off", path))
}

fn missing(path: &Path) -> JournalError {
    JournalError::file("open", path)(ErrorKind::NotFound.into())
}

/// Opens a file; `None` when it is missing.
fn open_file(path: &Path, write: bool) -> Result<Option<File>, JournalError> {
    match OpenOptions::new().read(true).write(write).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::file("open", path)(error)),
    }
}

fn make_file(path: &Path) -> Result<File, JournalError> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    made.map_err(JournalError::file("make", path))
}

fn make_folder(path: &Path) -> Result<(), JournalError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(JournalError::file("make the folder", path))
}

fn sync_folder(path: &Path) -> Result<(), JournalError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(JournalError::file("sync the folder", path))
}

/// The names in a folder that may be ours, sorted; none when there is no such folder.
fn names_in(path: &Path) -> Result<Vec<String>, JournalError> {
    let read = JournalError::file("list", path);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(&read)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(&read)?.file_name();
        names.extend(name.to_str().filter(|name| checked(name).is_ok()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
