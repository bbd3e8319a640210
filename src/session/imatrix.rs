//! Importance matrices of a session: read from a file, collected, and encoded as a file.

use super::{Calibrated, Session};
use crate::Result;
use crate::format::imatrix::Imatrix;
use crate::forward::context::Context;
use crate::forward::sequences::sequences;
use crate::methods::importances::collected;
use crate::model::fingerprint::Fnv;
use crate::model::importances::Importances;
use crate::model::weights::new_layer::NewLayer;
use crate::plan::MergePlan;
use crate::protocol::events::Observer;
use crate::protocol::options::{TextOptions, WriteOptions};
use crate::protocol::plan::{ImatrixFile, UsedImatrix};
use crate::protocol::text::TextReport;
use crate::write::imatrix_bytes;

/// An importance matrix that was read from a file.
pub struct GivenImatrix {
    /// Importances of the original's matrices.
    pub importances: Importances,
    /// The file.
    pub file: ImatrixFile,
}

impl Session {
    /// Uses the importance matrix of the original in `bytes`, those of the whole file called `name`, instead of collecting
    /// one: plans and models that are made from now on are encoded by it. A merged layer takes the importances of the layer
    /// of largest weight.
    ///
    /// # Errors
    /// Those of [`Imatrix::parse`] and [`Importances::read`].
    pub fn use_imatrix(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let imatrix = Imatrix::parse(name, bytes)?;
        let importances = Importances::read(name, &imatrix, &self.model.config)?;
        let mut hash = Fnv::default();
        hash.bytes(bytes);
        let file = ImatrixFile { name: name.to_owned(), hash: format!("{:016x}", hash.value()) };
        self.planned = None;
        self.imatrix = Some(GivenImatrix { importances, file });
        Ok(())
    }

    /// Collects importances again, as before [`use_imatrix`](Self::use_imatrix).
    pub fn forget_imatrix(&mut self) {
        self.planned = None;
        self.imatrix = None;
    }

    /// Returns the importance matrix that is [used](Self::use_imatrix) instead of collecting one, if there is one.
    pub fn imatrix(&self) -> Option<&ImatrixFile> {
        self.imatrix.as_ref().map(|given| &given.file)
    }

    /// Returns that importance matrix with what its file says of itself.
    pub fn used_imatrix(&self) -> Option<UsedImatrix> {
        self.imatrix.as_ref().map(|GivenImatrix { importances, file }| UsedImatrix {
            file: file.clone(),
            datasets: importances.datasets.clone(),
            tokens: importances.most_tokens(),
        })
    }

    /// Returns that importance matrix as a report names it, of what is stored as `output` says.
    pub(super) fn encoded_by(&self, output: &WriteOptions) -> Option<ImatrixFile> {
        self.imatrix().filter(|_| output.importances).cloned()
    }

    /// Runs the text of `options` through the original, and returns its importance matrix as the bytes of a GGUF file, with
    /// the number of sequences and tokens.
    ///
    /// # Errors
    /// Those of [`estimate`](Self::estimate).
    pub async fn collect_imatrix(
        &self,
        options: &TextOptions,
        observer: &dyn Observer,
    ) -> Result<(Vec<u8>, TextReport)> {
        let (sequences, text) = sequences(&self.model, options)?;
        let context = Context::new(&self.model, &self.accelerator, &sequences, observer);
        let layers = NewLayer::originals(&self.model);
        let mut importances = collected(&context, &layers).await?;
        importances.datasets = vec![text.name.clone()];
        Ok((imatrix_bytes(&self.model, &layers, &importances)?, text))
    }

    /// Returns the importance matrix of the model of `plan`, as the bytes of a GGUF file whose tensors have the names of that
    /// model: that by which its layers were encoded, if it was collected when the plan was measured, or else one that is
    /// collected now on the calibration text.
    ///
    /// # Errors
    /// Those of [`write`](Self::write) before a file is written, and [`Error::Usage`](crate::Error::Usage) before the
    /// similarity stage.
    pub async fn imatrix_of(
        &self,
        plan: &MergePlan,
        output: &WriteOptions,
        observer: &dyn Observer,
    ) -> Result<Vec<u8>> {
        let calibrated = self.calibrated()?;
        let known = self.planned_as(plan, output).filter(|_| self.imatrix.is_none());
        if let Some(planned) = known
            && let Some(importances) = &planned.importances
        {
            return self.named(calibrated, &planned.layers, importances.clone());
        }
        let layers = self.layers(plan, output, observer).await?;
        let importances = collected(&self.context(calibrated, output, observer), &layers).await?;
        self.named(calibrated, &layers, importances)
    }

    fn named(
        &self,
        calibrated: &Calibrated,
        layers: &[NewLayer],
        mut importances: Importances,
    ) -> Result<Vec<u8>> {
        importances.datasets = vec![calibrated.text.name.clone()];
        imatrix_bytes(&self.model, layers, &importances)
    }
}
