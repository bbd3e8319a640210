//! Objects of the page behind the traits of the engine: files, folders, kept parts, and the observer.

use std::rc::Rc;

use futures::future::LocalBoxFuture;
use js_sys::{Function, Promise, Uint8Array};

use super::{JsByteSource, JsCast, JsFolder, JsFuture, JsParts, JsValue, caught, to_js, words};
use crate::files::parts::PartStore;
use crate::files::sink::OutputFolder;
use crate::files::source::{ByteSource, SharedSource};
use crate::protocol::events::{Event, Observer};
use crate::{Error, Result};

async fn settle(name: &str, promise: std::result::Result<Promise, JsValue>) -> Result<JsValue> {
    let promise = promise.map_err(|e| caught(name, &e))?;
    JsFuture::from(promise).await.map_err(|e| caught(name, &e))
}

/// A `File` of the browser, or anything else that answers ranges.
pub struct BrowserFile {
    name: String,
    size: u64,
    file: JsByteSource,
}

impl BrowserFile {
    /// Wraps a file, and reads its name and size.
    pub fn new(file: JsByteSource) -> Self {
        Self { name: file.name(), size: file.size() as u64, file }
    }
}

impl ByteSource for BrowserFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> LocalBoxFuture<'static, Result<Vec<u8>>> {
        // Called here and not in the future, so that the browser begins to read at once.
        let promise = self.file.read(offset as f64, length as f64);
        bytes(self.name.clone(), promise, length)
    }
}

fn bytes(
    name: String,
    promise: std::result::Result<Promise, JsValue>,
    length: usize,
) -> LocalBoxFuture<'static, Result<Vec<u8>>> {
    Box::pin(async move {
        let value = settle(&name, promise).await?;
        let array = value.dyn_into::<Uint8Array>();
        let bytes = array.map_err(|_| Error::internal(format!("{name}: the page gave no bytes")))?.to_vec();
        if bytes.len() != length {
            return Err(Error::Source(format!(
                "{name}: {} bytes came where {length} were asked; the file changed: open it again",
                bytes.len()
            )));
        }
        Ok(bytes)
    })
}

/// A folder into which the page writes.
pub struct BrowserFolder(pub Rc<JsFolder>);

/// A file of the folder that was just written.
struct WrittenFile {
    name: String,
    size: u64,
    folder: Rc<JsFolder>,
}

impl ByteSource for WrittenFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> LocalBoxFuture<'static, Result<Vec<u8>>> {
        let promise = self.folder.read_file(&self.name, offset as f64, length as f64);
        bytes(self.name.clone(), promise, length)
    }
}

fn opened(folder: Rc<JsFolder>, name: &str) -> LocalBoxFuture<'_, Result<SharedSource>> {
    let promise = folder.file_size(name);
    Box::pin(async move {
        let size = settle(name, promise).await?.as_f64();
        let size = size.ok_or_else(|| Error::internal(format!("{name}: the page gave no size")))? as u64;
        Ok(Rc::new(WrittenFile { name: name.to_owned(), size, folder }) as SharedSource)
    })
}

fn done<'a>(
    name: &'static str,
    promise: std::result::Result<Promise, JsValue>,
) -> LocalBoxFuture<'a, Result<()>> {
    Box::pin(async move { settle(name, promise).await.map(drop) })
}

impl OutputFolder for BrowserFolder {
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        let promise = self.0.create(name);
        Box::pin(async move { settle(name, promise).await.map(drop) })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
        done("writing", self.0.write(Uint8Array::from(bytes)))
    }

    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        done("closing a file", self.0.close())
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
        opened(Rc::clone(&self.0), name)
    }

    fn commit(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        done("finishing the folder", self.0.commit())
    }

    fn abort(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        done("clearing the folder", self.0.abort())
    }
}

/// A store of parts that the page keeps.
pub struct BrowserParts(pub JsParts);

impl PartStore for BrowserParts {
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        done("keeping a layer", self.0.create(name))
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
        done("keeping a layer", self.0.write(Uint8Array::from(bytes)))
    }

    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        done("keeping a layer", self.0.close())
    }

    fn names(&self) -> LocalBoxFuture<'_, Result<Vec<String>>> {
        let promise = self.0.names();
        Box::pin(async move { words("kept layers", settle("kept layers", promise).await?) })
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
        let parts: &JsValue = self.0.as_ref();
        opened(Rc::new(parts.clone().unchecked_into()), name)
    }

    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        done("kept layers", self.0.remove(name))
    }
}

/// The page's `observe` function; a promise of `true` stops the run.
pub struct Page(pub Function);

impl Observer for Page {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let event = to_js(&event).map_err(|e| caught("progress", &e))?;
            let promise = self.0.call1(&JsValue::NULL, &event).map_err(|e| caught("progress", &e))?;
            let stop = JsFuture::from(Promise::resolve(&promise)).await;
            match stop.map_err(|e| caught("progress", &e))?.as_bool() {
                Some(true) => Err(Error::Cancelled),
                _ => Ok(()),
            }
        })
    }
}
