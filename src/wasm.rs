//! Interface to the page: conversions between JavaScript and the engine, without policy.
//!
//! `www/engine/protocol/` describes the same interface in TypeScript.

// The code that `#[wasm_bindgen]` generates is unsafe.
#![allow(unsafe_code)]

mod browser;

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Float64Array, Function, Promise, Uint8Array};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use self::browser::{BrowserFile, BrowserFolder, BrowserParts, Page};
use crate::analysis::atlas::{LayerMap, MapOptions};
use crate::device::{Accelerator, Preference};
use crate::files::parts::PartStore;
use crate::files::source::SharedSource;
use crate::kernels::panels;
use crate::kernels::panels::kernel::Block;
use crate::kernels::panels::pool::{self, Operand, Pool};
use crate::maths::similarity::Metric;
use crate::model::Model;
use crate::model::open::name_of;
use crate::plan::{METHODS, MergePlan, PlanOptions};
use crate::protocol::heal::HealOptions;
use crate::protocol::model::ModelReport;
use crate::protocol::options::{CalibrationOptions, CompareOptions, WriteOptions};
use crate::session::{Next, RunOptions, Session};
use crate::{Error, Result, demo};

/// Result of a call into the engine: a value for JavaScript, or an error `{kind, message}`.
type JsResult = std::result::Result<JsValue, JsValue>;

#[wasm_bindgen]
extern "C" {
    /// `ByteSource` of `protocol/files.ts`.
    pub type JsByteSource;
    #[wasm_bindgen(method, getter)]
    fn name(this: &JsByteSource) -> String;
    #[wasm_bindgen(method, getter)]
    fn size(this: &JsByteSource) -> f64;
    #[wasm_bindgen(method, catch)]
    fn read(this: &JsByteSource, offset: f64, length: f64) -> std::result::Result<Promise, JsValue>;

    /// `OutputFolder` of `protocol/files.ts`.
    pub type JsFolder;
    #[wasm_bindgen(method, catch)]
    fn create(this: &JsFolder, name: &str) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn write(this: &JsFolder, bytes: Uint8Array) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn close(this: &JsFolder) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = size)]
    fn file_size(this: &JsFolder, name: &str) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = read)]
    fn read_file(
        this: &JsFolder,
        name: &str,
        offset: f64,
        length: f64,
    ) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn commit(this: &JsFolder) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn abort(this: &JsFolder) -> std::result::Result<Promise, JsValue>;

    /// `PartStore` of `protocol/files.ts`: a folder whose files can also be listed and removed one by one.
    #[wasm_bindgen(extends = JsFolder)]
    pub type JsParts;
    #[wasm_bindgen(method, catch)]
    fn names(this: &JsParts) -> std::result::Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn remove(this: &JsParts, name: &str) -> std::result::Result<Promise, JsValue>;

    /// `panels/kernel.rs`, compiled with fused multiply-adds; it works in the memory of the engine.
    pub type JsKernel;
    #[wasm_bindgen(method, js_name = addProducts)]
    fn add_products(
        this: &JsKernel,
        left: usize,
        n_left: usize,
        right: usize,
        n_right: usize,
        depth: usize,
        y: usize,
        n_y: usize,
        n_columns: usize,
        width: usize,
        lower: isize,
    );

    /// `Pool` of `engine/pool.ts`: threads that multiply together, and copy from the memory of the engine and into it.
    pub type JsPool;
    #[wasm_bindgen(method, getter)]
    fn threads(this: &JsPool) -> usize;
    #[wasm_bindgen(method)]
    fn left(
        this: &JsPool,
        at: usize,
        length: usize,
        rows: usize,
        row: usize,
        column: usize,
        depth: usize,
        stretch: usize,
    ) -> bool;
    #[wasm_bindgen(method)]
    fn begin(
        this: &JsPool,
        at: usize,
        rows: usize,
        row: usize,
        column: usize,
        y: usize,
        n_columns: usize,
        lower: isize,
    ) -> bool;
    #[wasm_bindgen(method)]
    fn end(this: &JsPool, y: usize, n_columns: usize) -> bool;
}

impl Pool for JsPool {
    fn threads(&self) -> usize {
        self.threads()
    }

    fn left(&self, left: Operand<'_>, depth: usize, stretch: usize) -> bool {
        let Operand { values, rows, row, column } = left;
        self.left(values.as_ptr() as usize, values.len(), rows, row, column, depth, stretch)
    }

    fn begin(&self, right: Operand<'_>, y: Option<(&[f32], usize)>, lower: Option<usize>) -> bool {
        let Operand { values, rows, row, column } = right;
        let (y, n_columns) = y.map_or((0, 0), |(y, n_columns)| (y.as_ptr() as usize, n_columns));
        let lower = lower.map_or(-1, usize::cast_signed);
        self.begin(values.as_ptr() as usize, rows, row, column, y, n_columns, lower)
    }

    fn end(&self, y: &mut [f32], n_columns: usize) -> bool {
        self.end(y.as_mut_ptr() as usize, n_columns)
    }
}

/// Sets the threads that share large products from now on.
#[wasm_bindgen(js_name = multiplyWith)]
pub fn multiply_with(pool: JsPool) {
    pool::multiply_with(pool);
}

/// Sets the kernel that adds the products of large blocks from now on.
#[wasm_bindgen(js_name = addProductsBy)]
pub fn add_products_by(kernel: JsKernel) {
    panels::add_products_by(move |block| {
        let Block { left, right, depth, y, n_columns, width, lower } = block;
        let lower = lower.map_or(-1, usize::cast_signed);
        let [left_at, right_at, y_at] =
            [left.as_ptr() as usize, right.as_ptr() as usize, y.as_mut_ptr() as usize];
        kernel.add_products(
            left_at,
            left.len(),
            right_at,
            right.len(),
            depth,
            y_at,
            y.len(),
            n_columns,
            width,
            lower,
        );
    });
}

/// Installs a hook when the module is loaded that writes the message of a panic, which is a bug, to the
/// console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// The engine: `WasmEngine` of `protocol/engine.ts`. Only one call may be in progress at a time.
///
/// Methods fail with `{kind, message}`: kind `usage` if no model is open, another call is in progress or the
/// arguments are not understood, else the error of the method of [`Session`] that they call.
#[wasm_bindgen]
pub struct Engine {
    accelerator: Accelerator,
    session: RefCell<Option<Session>>,
}

#[wasm_bindgen]
impl Engine {
    /// Creates an engine on the preferred device: "auto", "gpu" or "cpu". `alone` says why there is one thread only, if so.
    /// `unusable` says what is wrong with the graphics device, if the page has found that out; then the CPU is taken.
    pub async fn create(
        preference: String,
        alone: Option<String>,
        unusable: Option<String>,
    ) -> std::result::Result<Engine, JsValue> {
        let preference: Preference = preference.parse().map_err(thrown)?;
        let mut accelerator = match unusable {
            Some(why) => Accelerator::cpu(format!("no GPU can be used: {why}")),
            None => Accelerator::choose(preference).await.map_err(thrown)?,
        };
        if let Some(why) = alone {
            accelerator.alone(why);
        }
        Ok(Engine { accelerator, session: RefCell::new(None) })
    }

    /// Returns the report of the device that runs the arithmetic.
    pub fn device(&self) -> JsResult {
        to_js(self.accelerator.report())
    }

    /// Opens the demo's model, whose weights are the bytes of `src/demo/model.safetensors.planes`, and returns its report.
    #[wasm_bindgen(js_name = openDemo)]
    pub async fn open_demo(&self, weights: Vec<u8>) -> JsResult {
        self.opened(demo::open_with(&weights).await)
    }

    /// Opens the model with the given files and returns its report. Without `name`, the model is named after
    /// its files.
    pub async fn open(&self, files: Vec<JsByteSource>, name: Option<String>) -> JsResult {
        let sources: Vec<SharedSource> =
            files.into_iter().map(|file| Rc::new(BrowserFile::new(file)) as SharedSource).collect();
        let name = name.or_else(|| name_of(&sources)).unwrap_or_else(|| "your model".to_owned());
        self.opened(Model::open(name, &sources).await)
    }

    fn opened(&self, model: Result<Model>) -> JsResult {
        let model = model.map_err(thrown)?;
        let report = to_js(&ModelReport::new(&model))?;
        self.session.replace(Some(Session::new(model, self.accelerator.clone())));
        Ok(report)
    }

    /// Lets finished layers of the open model wait in `store`, which nothing else uses, until they are measured or written.
    #[wasm_bindgen(js_name = spillTo)]
    pub fn spill_to(&self, store: JsParts) -> std::result::Result<(), JsValue> {
        let mut session = self.session.borrow_mut();
        session.as_mut().ok_or_else(no_session)?.spill_to(Box::new(BrowserParts(store)));
        Ok(())
    }

    /// Estimates the memory and time of the similarity stage.
    pub async fn estimate(&self, options: JsValue) -> JsResult {
        let options: CalibrationOptions = from_js(options)?;
        self.with_session(async |session| session.estimate(&options).await).await
    }

    /// Uses the importance matrix of the original in `bytes`, those of the whole file `name`, instead of collecting one.
    /// Returns what the file says of itself.
    #[wasm_bindgen(js_name = useImatrix)]
    pub fn use_imatrix(&self, name: String, bytes: Vec<u8>) -> JsResult {
        let mut session = self.session.borrow_mut();
        let session = session.as_mut().ok_or_else(no_session)?;
        session.use_imatrix(&name, &bytes).map_err(thrown)?;
        to_js(&session.used_imatrix())
    }

    /// Collects importances again.
    #[wasm_bindgen(js_name = forgetImatrix)]
    pub fn forget_imatrix(&self) -> std::result::Result<(), JsValue> {
        self.session.borrow_mut().as_mut().ok_or_else(no_session)?.forget_imatrix();
        Ok(())
    }

    /// Returns the importance matrix of the model of a plan, as the bytes of a GGUF file.
    #[wasm_bindgen(js_name = imatrixOf)]
    pub async fn imatrix_of(
        &self,
        plan: JsValue,
        output: JsValue,
        observe: Function,
    ) -> std::result::Result<Uint8Array, JsValue> {
        let plan: MergePlan = from_js(plan)?;
        let output: WriteOptions = from_js(output)?;
        let observer = Page(observe);
        let bytes = self.lending(async |session| session.imatrix_of(&plan, &output, &observer).await).await?;
        Ok(Uint8Array::from(bytes.as_slice()))
    }

    /// Estimates a plan after the similarity stage, for a model that is stored as `output` says. Fitted models are
    /// measured on the text `judge`.
    #[wasm_bindgen(js_name = estimatePlan)]
    pub async fn estimate_plan(
        &self,
        calibration: JsValue,
        plan: JsValue,
        output: JsValue,
        judge: JsValue,
    ) -> JsResult {
        let (calibration, plan): (CalibrationOptions, PlanOptions) = (from_js(calibration)?, from_js(plan)?);
        let (output, judge): (WriteOptions, _) = (or_default(output)?, from_js(judge)?);
        self.with_session(async |session| {
            session.judge_on(judge);
            session.estimate_plan(&calibration, &plan, &output).await
        })
        .await
    }

    /// Estimates a comparison of methods after the similarity stage.
    #[wasm_bindgen(js_name = estimateCompare)]
    pub async fn estimate_compare(&self, calibration: JsValue, options: JsValue) -> JsResult {
        let (calibration, options): (CalibrationOptions, CompareOptions) =
            (from_js(calibration)?, from_js(options)?);
        self.with_session(async |session| session.estimate_compare(&calibration, &options).await).await
    }

    /// Estimates the number of calibration sequences with which the similarity stage and a plan take at most
    /// `seconds`, for a model that is stored as `output` says. Fitted models are measured on the text `judge`.
    #[wasm_bindgen(js_name = sequencesWithin)]
    pub async fn sequences_within(
        &self,
        seconds: f64,
        calibration: JsValue,
        plan: JsValue,
        output: JsValue,
        judge: JsValue,
    ) -> JsResult {
        let (calibration, plan): (CalibrationOptions, PlanOptions) = (from_js(calibration)?, from_js(plan)?);
        let (output, judge): (WriteOptions, _) = (or_default(output)?, from_js(judge)?);
        self.with_session(async |session| {
            session.judge_on(judge);
            session.sequences_within(seconds, &calibration, Next::Plan(&plan, &output)).await
        })
        .await
    }

    /// Runs the similarity stage; finished layers are kept in `kept`, if given.
    pub async fn similarity(&self, options: JsValue, observe: Function, kept: Option<JsParts>) -> JsResult {
        let options: CalibrationOptions = from_js(options)?;
        let observer = Page(observe);
        let run = RunOptions::watched_by(&observer).kept_in(boxed(kept));
        self.with_session(async |session| session.similarity(&options, run).await).await
    }

    /// Computes similarities by another metric. Plans still use the metric of the similarity stage.
    #[wasm_bindgen(js_name = similarityBy)]
    pub async fn similarity_by(&self, metric: String, observe: Function) -> JsResult {
        let metric: Metric = metric.parse().map_err(thrown)?;
        let observer = Page(observe);
        self.with_session(async |session| session.similarity_by(metric, &observer).await).await
    }

    /// Measures the model of an existing plan, after each step if the weights of the plan determine its
    /// layers. Fitted models are measured on the text `judge`; finished work is kept in `kept`, if given.
    pub async fn measure(
        &self,
        plan: JsValue,
        observe: Function,
        output: JsValue,
        judge: JsValue,
        kept: Option<JsParts>,
    ) -> JsResult {
        let plan: MergePlan = from_js(plan)?;
        let (output, judge) = (or_default(output)?, or_default(judge)?);
        let observer = Page(observe);
        let run = RunOptions::watched_by(&observer).kept_in(boxed(kept)).measuring_each_step();
        self.with_session(async |session| {
            session.judge_on(judge);
            session.measure(&plan, &output, run).await
        })
        .await
    }

    /// Computes maps of some layers with other options than those of the similarity stage.
    #[wasm_bindgen(js_name = mapLayers)]
    pub fn map_layers(&self, options: JsValue) -> JsResult {
        let options: MapOptions = from_js(options)?;
        let mut session = self.session.borrow_mut();
        let maps = session.as_mut().ok_or_else(no_session)?.maps(&options).map_err(thrown)?;
        to_js(&maps.iter().map(JsLayerMap::from).collect::<Vec<_>>())
    }

    /// Checks that the model can be stored as `output` says. Returns what the files will not hold, in sentences.
    #[wasm_bindgen(js_name = checkOutput)]
    pub async fn check_output(&self, output: JsValue) -> JsResult {
        let output: WriteOptions = from_js(output)?;
        self.with_session(async |session| session.check_output(&output).await).await
    }

    /// Makes a plan and measures its model, stored as `output` says. Fitted models are measured on the text
    /// `judge`; finished work is kept in `kept`, if given.
    pub async fn plan(
        &self,
        options: JsValue,
        observe: Function,
        output: JsValue,
        judge: JsValue,
        kept: Option<JsParts>,
    ) -> JsResult {
        let options = from_js(options)?;
        let (output, judge) = (or_default(output)?, or_default(judge)?);
        let observer = Page(observe);
        let run = RunOptions::watched_by(&observer).kept_in(boxed(kept));
        self.with_session(async |session| {
            session.judge_on(judge);
            session.plan(&options, &output, run).await
        })
        .await
    }

    /// Returns the sizes of files between which the best model can be found.
    #[wasm_bindgen(js_name = sizeRange)]
    pub async fn size_range(&self, options: JsValue, output: JsValue) -> JsResult {
        let (options, output) = (from_js(options)?, or_default(output)?);
        self.with_session(async |session| session.size_range(&options, &output).await).await
    }

    /// Estimates the search for the best model of a size after the similarity stage. Fitted models are measured on the text
    /// `judge`.
    #[wasm_bindgen(js_name = estimateSize)]
    pub async fn estimate_size(
        &self,
        calibration: JsValue,
        plan: JsValue,
        output: JsValue,
        judge: JsValue,
    ) -> JsResult {
        let (calibration, plan): (CalibrationOptions, PlanOptions) = (from_js(calibration)?, from_js(plan)?);
        let (output, judge) = (or_default(output)?, from_js(judge)?);
        self.with_session(async |session| {
            session.judge_on(judge);
            session.estimate_size(&calibration, &plan, &output).await
        })
        .await
    }

    /// Finds the best model whose file has at most `size` bytes. Fitted models are measured on the text `judge`; finished
    /// work is kept in `kept`, if given.
    #[wasm_bindgen(js_name = bestOfSize)]
    pub async fn best_of_size(
        &self,
        size: f64,
        options: JsValue,
        observe: Function,
        output: JsValue,
        judge: JsValue,
        kept: Option<JsParts>,
    ) -> JsResult {
        let options = from_js(options)?;
        let (output, judge) = (or_default(output)?, or_default(judge)?);
        let observer = Page(observe);
        let run = RunOptions::watched_by(&observer).kept_in(boxed(kept));
        self.with_session(async |session| {
            session.judge_on(judge);
            session.best_of_size(size as u64, &options, &output, run).await
        })
        .await
    }

    /// Fits a plan to each of `sizes` numbers of calibration sequences, and measures each model on the text
    /// `judge`.
    #[wasm_bindgen(js_name = calibrationCurve)]
    pub async fn calibration_curve(
        &self,
        plan: JsValue,
        sizes: Vec<usize>,
        observe: Function,
        output: JsValue,
        judge: JsValue,
    ) -> JsResult {
        let plan: MergePlan = from_js(plan)?;
        let (output, judge) = (or_default(output)?, or_default(judge)?);
        self.with_session(async |session| {
            session.judge_on(judge);
            session.calibration_curve(&plan, &sizes, &output, &Page(observe)).await
        })
        .await
    }

    /// Returns the named methods.
    pub fn methods(&self) -> JsResult {
        to_js(&METHODS)
    }

    /// Heals the model of a plan, stored as `output` says, measured on the text `judge`. If the observer stops the run, the best
    /// model so far is kept.
    pub async fn heal(
        &self,
        plan: JsValue,
        output: JsValue,
        options: JsValue,
        observe: Function,
        judge: JsValue,
        kept: Option<JsParts>,
    ) -> JsResult {
        let (plan, options): (MergePlan, HealOptions) = (from_js(plan)?, from_js(options)?);
        let (output, judge) = (or_default(output)?, or_default(judge)?);
        let observer = Page(observe);
        let run = RunOptions::watched_by(&observer).kept_in(boxed(kept));
        self.with_session(async |session| {
            session.judge_on(judge);
            session.heal(&plan, &output, &options, run).await
        })
        .await
    }

    /// Compares methods by models that are measured on another text than the calibration text, and keeps what the last
    /// model was made of in `kept`, if there is one.
    pub async fn compare(&self, options: JsValue, observe: Function, kept: Option<JsParts>) -> JsResult {
        let options: CompareOptions = from_js(options)?;
        let observer = Page(observe);
        let run = RunOptions::watched_by(&observer).kept_in(boxed(kept));
        self.with_session(async |session| session.compare(&options, run).await).await
    }

    /// Writes the model of a plan into `folder`.
    pub async fn write(
        &self,
        plan: JsValue,
        options: JsValue,
        folder: JsFolder,
        observe: Function,
    ) -> JsResult {
        let plan: MergePlan = from_js(plan)?;
        let options: WriteOptions = from_js(options)?;
        let mut folder = BrowserFolder(Rc::new(folder));
        let observer = Page(observe);
        self.with_session(async |session| session.write(&plan, &options, &mut folder, &observer).await).await
    }

    /// Returns the built-in calibration text and its name.
    #[wasm_bindgen(js_name = builtinText)]
    pub fn builtin_text(&self) -> JsResult {
        to_js(&Text { name: demo::TEXT_NAME, text: demo::TEXT })
    }

    /// Returns the built-in evaluation text and its name.
    #[wasm_bindgen(js_name = builtinEvaluation)]
    pub fn builtin_evaluation(&self) -> JsResult {
        to_js(&Text { name: demo::EVALUATION_NAME, text: demo::EVALUATION })
    }

    /// Lends the session to `work`, whose answer it converts.
    async fn with_session<T: Serialize>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T>,
    ) -> JsResult {
        to_js(&self.lending(work).await?)
    }

    /// Lends the session to `work`. The arguments of a call are converted before: a call whose arguments are
    /// not understood must not lose the session.
    async fn lending<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T>,
    ) -> std::result::Result<T, JsValue> {
        let mut session = self.session.take().ok_or_else(no_session)?;
        let result = work(&mut session).await;
        self.session.replace(Some(session));
        result.map_err(thrown)
    }
}

/// Makes the error of a call while the session is lent or no model was opened.
fn no_session() -> JsValue {
    thrown(Error::Usage("no model is open, or a run is going on; open one or wait".to_owned()))
}

/// Boxes the store of a run, if there is one.
fn boxed(kept: Option<JsParts>) -> Option<Box<dyn PartStore>> {
    kept.map(|kept| Box::new(BrowserParts(kept)) as Box<dyn PartStore>)
}

/// A text and its name.
#[derive(Serialize)]
struct Text {
    name: &'static str,
    text: &'static str,
}

/// `LayerMap` of `protocol/maps.ts`.
#[derive(Serialize)]
struct JsLayerMap {
    layer: usize,
    epsilon: f64,
    eigenvalues: Vec<f64>,
    disconnected: bool,
    dims: usize,
    /// Coordinates `[n_points, dims]`, point after point.
    #[serde(with = "serde_wasm_bindgen::preserve")]
    coordinates: Float64Array,
}

impl From<&LayerMap> for JsLayerMap {
    fn from(LayerMap { layer, map, picture, eigenvalues }: &LayerMap) -> Self {
        Self {
            layer: *layer,
            epsilon: map.epsilon(),
            eigenvalues: eigenvalues.clone(),
            disconnected: map.nearly_disconnected(),
            dims: picture.dims(),
            coordinates: Float64Array::from(picture.to_rows().concat().as_slice()),
        }
    }
}

/// An error in the form that JavaScript gets: `EngineError` of `protocol/error.ts`.
#[derive(Serialize, Deserialize)]
struct Thrown {
    kind: String,
    message: String,
}

fn thrown(error: Error) -> JsValue {
    let thrown = Thrown { kind: error.kind().to_owned(), message: error.to_string() };
    to_js(&thrown).unwrap_or_else(|_| JsValue::from_str(&thrown.message))
}

/// Converts a value that JavaScript threw to an error about `name`.
fn caught(name: &str, value: &JsValue) -> Error {
    if let Ok(Thrown { kind, message }) = serde_wasm_bindgen::from_value(value.clone()) {
        return match kind.as_str() {
            "cancelled" => Error::Cancelled,
            "limit" => Error::Limit(message),
            "usage" => Error::Usage(message),
            _ => Error::Source(message),
        };
    }
    let message = match value.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => value.as_string().unwrap_or_else(|| "unknown failure".to_owned()),
    };
    Error::Source(format!("{name}: {message}"))
}

fn to_js<T: Serialize>(value: &T) -> JsResult {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| JsValue::from_str(&e.to_string()))
}

fn from_js<T: DeserializeOwned>(value: JsValue) -> std::result::Result<T, JsValue> {
    serde_wasm_bindgen::from_value(value)
        .map_err(|e| thrown(Error::Usage(format!("the options are not understood ({e})"))))
}

/// Converts a value from JavaScript; `null` and `undefined` become the default.
fn or_default<T: DeserializeOwned + Default>(value: JsValue) -> std::result::Result<T, JsValue> {
    Ok(from_js::<Option<T>>(value)?.unwrap_or_default())
}

/// Converts a list of words from JavaScript; errors are about `name`.
fn words(name: &str, list: JsValue) -> Result<Vec<String>> {
    serde_wasm_bindgen::from_value(list).map_err(|e| Error::Source(format!("{name}: {e}")))
}
