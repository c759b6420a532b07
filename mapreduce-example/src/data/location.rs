//! A place in a store.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::{Component, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    ObjectStoreScheme, PutMode, PutOptions, PutPayload,
};
use url::Url;

use super::wait;
use crate::task::{Stop, TaskError};

/// Why something could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Nothing is there.
    #[error("{place}: there is no such file")]
    Missing {
        /// Where: the path of a local file, or else a URL.
        place: String,
    },
    /// Something is there, and it is not what was written.
    #[error("{place}: damaged: {reason}")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The store said no.
    #[error("{place}: {reason}")]
    Failed {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
}

impl From<DataError> for TaskError {
    fn from(error: DataError) -> TaskError {
        TaskError::Failed(error.to_string())
    }
}

/// The stores that are in use, each opened once. Clones share them.
#[derive(Clone)]
pub struct Stores {
    local: Arc<LocalFileSystem>,
    memory: Arc<InMemory>,
    others: Arc<Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>>,
    heard_by: Option<Arc<dyn Stop>>,
}

/// Stores beyond this number are opened again each time; nobody has as many, but a worker serves whoever submits.
const STORES_MAX: usize = 64;

impl Stores {
    /// No store is opened yet.
    #[must_use]
    pub fn new() -> Stores {
        Stores {
            local: Arc::new(LocalFileSystem::new().with_fsync(true)),
            memory: Arc::new(InMemory::new()),
            others: Arc::default(),
            heard_by: None,
        }
    }

    /// The same ones, where each call gives a sign of life to the attempt that makes it: many slow ones are no call that hangs.
    pub(crate) fn heard_by(&self, stop: Arc<dyn Stop>) -> Stores {
        Stores { heard_by: Some(stop), ..self.clone() }
    }

    /// A path of the local file system, or a URL: `file:///…`, `memory:///…` (which ends with the process: for tests), and with
    /// the feature `cloud` those of S3-compatible stores, Google's and Azure, which take what else they have to know from the
    /// environment.
    ///
    /// # Errors
    /// It is no URL, or no store of this program's. Nothing is read.
    pub fn locate(&self, place: &str) -> Result<Location, DataError> {
        let failed = |reason| DataError::Failed { place: place.to_owned(), reason };
        let url = url(place).map_err(failed)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(failed("a URL of data has neither a query nor a fragment".to_owned()));
        }
        let (scheme, path) =
            ObjectStoreScheme::parse(&url).map_err(|error| failed(innermost(&error)))?;
        let is_local = scheme == ObjectStoreScheme::Local;
        let store: Arc<dyn ObjectStore> = if is_local {
            self.local.clone()
        } else if scheme == ObjectStoreScheme::Memory {
            self.memory.clone()
        } else {
            self.other(&url, &path).map_err(|error| failed(innermost(&error)))?
        };
        Ok(Location { store, path, url, is_local, heard_by: self.heard_by.clone() })
    }

    fn other(&self, url: &Url, path: &Path) -> object_store::Result<Arc<dyn ObjectStore>> {
        let origin = url.as_str().trim_end_matches('/');
        let origin = origin.strip_suffix(path.as_ref()).unwrap_or(origin).to_owned();
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = others.get(&origin) {
            return Ok(store.clone());
        }
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let (store, _) = object_store::parse_url_opts(url, environment)?;
        let store: Arc<dyn ObjectStore> = Arc::from(store);
        if others.len() < STORES_MAX {
            others.insert(origin, store.clone());
        }
        Ok(store)
    }
}

impl Default for Stores {
    fn default() -> Stores {
        Stores::new()
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

/// A place in a store: of an object, or of a folder of them.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    path: Path,
    url: Url,
    is_local: bool,
    heard_by: Option<Arc<dyn Stop>>,
}

impl Location {
    /// Waits for a call of the store here.
    pub(super) fn wait<F: Future>(&self, call: F) -> F::Output {
        self.give_sign();
        let output = wait(call);
        self.give_sign();
        output
    }

    fn give_sign(&self) {
        if let Some(stop) = &self.heard_by {
            // Whether to stop is asked where something can be done about it.
            stop.is_stopped();
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// How people call it: the path of a local file, or else its URL.
    #[must_use]
    pub fn name(&self) -> String {
        match self.local_path() {
            Some(path) => path.display().to_string(),
            None => self.url().to_owned(),
        }
    }

    /// Its path, if it is in the local file system.
    #[must_use]
    pub fn local_path(&self) -> Option<PathBuf> {
        if self.is_local { self.url.to_file_path().ok() } else { None }
    }

    /// A place in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Location {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(name);
        }
        // `Path::join` would encode what is special in URLs, and a file has its name as it is.
        let path = Path::parse(format!("{}/{name}", self.path));
        let path = path.unwrap_or_else(|_| self.path.clone().join(name));
        Location { path, url, ..self.clone() }
    }

    /// The place with the same name and `suffix` after it.
    pub(crate) fn beside(&self, suffix: &str) -> Location {
        let mut segments = self.segments();
        let name = segments.pop().unwrap_or_default() + suffix;
        let folder = segments.iter().fold(self.root(), |folder, name| folder.join(name));
        folder.join(&name)
    }

    /// Its last name.
    pub(crate) fn file_name(&self) -> &str {
        self.path.filename().unwrap_or_default()
    }

    /// The root of its store.
    pub(crate) fn root(&self) -> Location {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            for _ in self.path.parts() {
                segments.pop_if_empty().pop();
            }
        }
        Location { path: Path::default(), url, ..self.clone() }
    }

    /// The names on the way from the root of its store.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.parts().map(|part| part.as_ref().to_owned()).collect()
    }

    /// Reads an object as a whole.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn read(&self) -> Result<Bytes, DataError> {
        self.wait(async { self.store.get(&self.path).await?.bytes().await })
            .map_err(|error| self.failed(&error))
    }

    /// Reads these bytes of an object, which must have them.
    pub(crate) fn read_range(&self, range: Range<u64>) -> Result<Bytes, DataError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let expected = range.end - range.start;
        let bytes = self
            .wait(self.store.get_range(&self.path, range))
            .map_err(|error| self.failed(&error))?;
        if bytes.len() as u64 != expected {
            let reason = "it became shorter while it was read".to_owned();
            return Err(DataError::Failed { place: self.name(), reason });
        }
        Ok(bytes)
    }

    /// Writes an object, in place of what is there.
    pub(crate) fn put(&self, bytes: Bytes) -> Result<(), DataError> {
        self.wait(self.store.put(&self.path, PutPayload::from_bytes(bytes)))
            .map(drop)
            .map_err(|error| self.failed(&error))
    }

    /// Writes an object, unless there is one. Whether there was none.
    pub(crate) fn put_new(&self, bytes: Bytes) -> Result<bool, DataError> {
        let options = PutOptions::from(PutMode::Create);
        match self.wait(self.store.put_opts(&self.path, PutPayload::from_bytes(bytes), options)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }

    pub(crate) fn put_in_parts(&self) -> Result<Box<dyn MultipartUpload>, DataError> {
        self.wait(self.store.put_multipart(&self.path)).map_err(|error| self.failed(&error))
    }

    /// What is known of an object.
    pub(crate) fn head(&self) -> Result<ObjectMeta, DataError> {
        self.wait(self.store.head(&self.path)).map_err(|error| self.failed(&error))
    }

    /// The folders and objects in this folder; none if there is no such folder.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn list(&self) -> Result<ListResult, DataError> {
        match self.wait(self.store.list_with_delimiter(Some(&self.path))) {
            Err(object_store::Error::NotFound { .. }) => Ok(ListResult {
                common_prefixes: Vec::new(),
                objects: Vec::new(),
                extensions: Default::default(),
            }),
            other => other.map_err(|error| self.failed(&error)),
        }
    }

    /// Deletes an object, if it is there.
    pub(crate) fn delete(&self) -> Result<(), DataError> {
        match self.wait(self.store.delete(&self.path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Deletes all objects below this folder.
    pub(crate) fn delete_below(&self) -> Result<(), DataError> {
        let found = self.store.list(Some(&self.path)).map_ok(|object| object.location).boxed();
        let deleted = self.store.delete_stream(found).try_for_each(|_| async { Ok(()) });
        match self.wait(deleted) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Gives a copy of the object here to `other`, a place in the same store. In the local file system it is the same file
    /// under another name, and nothing is replaced: what else has the name already is an error.
    pub(crate) fn copy_to(&self, other: &Location) -> Result<(), DataError> {
        let mode = if self.is_local { CopyMode::Create } else { CopyMode::Overwrite };
        let options = CopyOptions::new().with_mode(mode);
        match self.wait(self.store.copy_opts(&self.path, &other.path, options)) {
            Err(object_store::Error::AlreadyExists { .. }) => {
                if self.head()?.e_tag == other.head()?.e_tag {
                    return Ok(());
                }
                let reason = "it is there already, and not from this job".to_owned();
                Err(DataError::Failed { place: other.name(), reason })
            }
            Err(error @ object_store::Error::NotFound { .. }) => Err(self.failed(&error)),
            Err(error) => Err(other.failed(&error)),
            Ok(()) => Ok(()),
        }
    }

    pub(crate) fn failed(&self, error: &object_store::Error) -> DataError {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return DataError::Missing { place: self.name() };
        }
        DataError::Failed { place: self.name(), reason: innermost(error) }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.url()).finish()
    }
}

fn url(place: &str) -> Result<Url, String> {
    if place.contains("://") {
        return Url::parse(place).map_err(|error| format!("no URL: {error}"));
    }
    let path = std::path::absolute(place).map_err(|error| error.to_string())?;
    let path = without_parents(path);
    Url::from_file_path(&path).map_err(|()| "no path".to_owned())
}

/// The same place without `..`, as the file system takes it where there is something, and by name beyond that.
fn without_parents(path: PathBuf) -> PathBuf {
    if !path.components().any(|part| part == Component::ParentDir) {
        return path;
    }
    let mut place = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                place = std::fs::canonicalize(&place).unwrap_or(place);
                place.pop();
            }
            part @ (Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::Normal(_)) => place.push(part),
        }
    }
    place
}

/// What went wrong at the bottom: the layers above it repeat the place.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
