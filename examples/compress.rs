//! Compresses a model: `cargo run --release --example compress -- MODEL FOLDER LAYERS`.
//!
//! MODEL is a Hugging Face directory, a `.safetensors` or a `.gguf` file, or `demo`; FOLDER, which must not exist, gets the
//! new model, as a Hugging Face directory or, for a GGUF model, as a GGUF file; LAYERS is how many layers go.

use std::path::Path;

use laminate::files::sink::DirectoryFolder;
use laminate::files::source::open_path;
use laminate::{
    Accelerator, CalibrationOptions, Error, Method, Model, Preference, Result, Session, Silent, WriteOptions,
    demo,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, layers] = arguments.as_slice() else {
        return Err(Error::Usage("give a model, a folder and how many layers to remove".to_owned()));
    };
    let layers = layers.parse().map_err(|_| Error::Usage(format!("{layers} is not a number of layers")))?;
    futures::executor::block_on(compress(model, Path::new(folder), layers))
}

async fn compress(model: &str, folder: &Path, layers: usize) -> Result<()> {
    let model = match model {
        demo::NAME => demo::open().await?,
        path => Model::open(path, &open_path(Path::new(path))?).await?,
    };
    let accelerator = Accelerator::choose(Preference::Auto).await?;
    let mut session = Session::new(model, accelerator);

    // Which layers do the same: hidden states, diffusion maps, similarities.
    let compared = session.similarity(&CalibrationOptions::default(), &Silent).await?;
    for warning in &compared.warnings {
        eprintln!("{warning}");
    }

    // Which layers become one, and what that does to the model.
    let output = WriteOptions::default();
    let options = Method::named("mka")?.options(layers, 0);
    let plan = session.plan(&options, &output, &Silent).await?;
    println!("layers {} -> {}", plan.layers.before, plan.layers.after);
    println!("perplexity {:.3} -> {:.3}", plan.original.perplexity, plan.merged.perplexity);
    if let Some(kl) = plan.merged.kl {
        println!("KL to the original {kl:.4} nats a token");
    }

    let written = session.write(&plan.plan, &output, &mut DirectoryFolder::create(folder)?, &Silent).await?;
    println!("{} files, {} -> {} bytes", written.files.len(), written.bytes.before, written.bytes.after);
    Ok(())
}
