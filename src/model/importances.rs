//! Importances of the columns of matrices: what the products with them read, on a text.
//!
//! The importance of a column is the mean, over the tokens that come to the product, of the square of what the product
//! reads in that column. An encoder of quantised blocks makes errors small where they count by it
//! ([`BlockType::encode_weighted`](crate::format::blocks::BlockType::encode_weighted)).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Config;
use super::config::FeedForward;
use super::tensors::{OF_EXPERTS, Role, TensorId};
use super::weights::new_layer::NewLayer;
use crate::error::OrInternal;
use crate::format::Container;
use crate::format::imatrix::{Imatrix, InputSums};
use crate::{Error, Result};

/// Importances of the columns of the matrix that has a role in a layer, or of the matrix of each expert that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleImportances {
    width: usize,
    /// Sums of squares, `[matrices, width]`, row-major.
    sums: Vec<f32>,
    /// Number of tokens of each matrix.
    counts: Vec<f32>,
    /// Means of squares, `[matrices, width]`; 1 for a matrix to which no token came.
    means: Vec<f32>,
    /// Whether the matrices are those of experts.
    of_experts: bool,
}

impl RoleImportances {
    /// Makes importances of the sums of squares `[matrices, width]`, row-major, and the number of tokens of each matrix, which
    /// is that of an expert if `of_experts`.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are not as many sums.
    pub fn new(width: usize, sums: Vec<f32>, counts: Vec<f32>, of_experts: bool) -> Result<Self> {
        if width == 0 || counts.len().checked_mul(width) != Some(sums.len()) {
            return Err(Error::internal(format!(
                "{} sums of squares are not {} rows of {width}",
                sums.len(),
                counts.len()
            )));
        }
        let of_matrix = |(sums, count): (&[f32], &f32)| -> Vec<f32> {
            match *count > 0.0 {
                true => sums.iter().map(|sum| sum / count).collect(),
                false => vec![1.0; sums.len()],
            }
        };
        let means = sums.chunks_exact(width).zip(&counts).flat_map(of_matrix).collect();
        Ok(Self { width, sums, counts, means, of_experts })
    }

    /// Returns the number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the number of matrices: 1, or the number of experts.
    pub fn matrices(&self) -> usize {
        self.counts.len()
    }

    /// Returns the means of squares of the columns of a matrix, in the order in which the arithmetic reads them, all 1 if no
    /// token came to the matrix; `None` if there is no such matrix.
    pub fn means(&self, matrix: usize) -> Option<&[f32]> {
        self.means.chunks_exact(self.width).nth(matrix)
    }

    /// Returns the sums of squares of the columns of a matrix and the number of tokens.
    pub fn sums(&self, matrix: usize) -> Option<(&[f32], f32)> {
        self.sums.chunks_exact(self.width).nth(matrix).zip(self.counts.get(matrix).copied())
    }
}

/// Importances of the columns of the matrices of one layer, by role. A layer has an MLP or experts, so that the roles of an
/// expert are not those of the layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerImportances(BTreeMap<Role, RoleImportances>);

impl LayerImportances {
    /// Makes the importances of a layer.
    pub fn new(columns: BTreeMap<Role, RoleImportances>) -> Self {
        Self(columns)
    }

    /// Returns the importances of a role; `None` if the layer has no product of the role.
    pub fn of(&self, role: Role) -> Option<&RoleImportances> {
        self.0.get(&role)
    }

    /// Returns the means of squares of the columns of the matrix of `role`, of an expert if one is given, in the order in
    /// which the arithmetic reads them.
    pub fn means(&self, role: Role, expert: Option<usize>) -> Option<&[f32]> {
        self.of(role)?.means(expert.unwrap_or(0))
    }
}

/// Importances of the columns of all matrices of the layers of a model, and where they come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Importances {
    /// Importances of each layer.
    pub layers: Vec<Arc<LayerImportances>>,
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// Number of sequences; 0 if unknown.
    pub sequences: u32,
    /// Number of tokens of a sequence; 0 if unknown.
    pub tokens: u32,
}

impl Importances {
    /// Returns the means of squares of the columns of the matrix of `role` of the layer at `place`, of an expert if one is
    /// given, in the order in which the arithmetic reads them; `None` if the model has no such product.
    pub fn means(&self, place: usize, role: Role, expert: Option<usize>) -> Option<&[f32]> {
        self.layers.get(place)?.means(role, expert)
    }

    /// Returns the number of tokens that came to the matrix to which most came; 0 if there is no matrix.
    pub fn most_tokens(&self) -> u64 {
        let columns = self.layers.iter().flat_map(|layer| layer.0.values());
        let counts = columns.flat_map(|columns| columns.counts.iter().copied());
        counts.fold(0f32, f32::max).round() as u64
    }

    /// Reads the importances of a model with the configuration `config` out of `imatrix`, which was read from `file`. Sums
    /// for tensors outside the layers are left aside.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the tensor, if the file is of another model: if it has a tensor that the model has not,
    /// lacks one that may be quantised, or if numbers of columns or of experts differ.
    pub fn read(file: &str, imatrix: &Imatrix, config: &Config) -> Result<Self> {
        let other = |what: String| {
            Error::Usage(format!(
                "{file}: {what}; it is of another model: give one of {}",
                config.architecture_name()
            ))
        };
        let mut layers: Vec<BTreeMap<Role, RoleImportances>> = vec![BTreeMap::new(); config.n_layers];
        for (name, sums) in &imatrix.tensors {
            let ids = ids(name, config);
            let Some(first) = ids.first() else {
                return Err(other(format!("tensor {name} is none of the model's")));
            };
            let Some(layer) = first.layer() else { continue };
            let own = layers.get_mut(layer).ok_or_else(|| {
                other(format!(
                    "tensor {name} is of a layer that the model has not, which has {}",
                    config.n_layers
                ))
            })?;
            let is_of_experts = matches!(first, TensorId::Expert(..));
            let role = role_of(*first);
            // Where a layer has experts, it has no projections of an MLP.
            if !products(config, layer)?.contains(&role) || is_of_experts != of_experts(config, layer, role)?
            {
                return Err(other(format!("tensor {name} is none of the model's")));
            }
            let width = width(*first, config);
            if sums.columns != width {
                let theirs = sums.columns;
                return Err(other(format!("tensor {name} has {theirs} columns instead of {width}")));
            }
            let matrices = if is_of_experts { experts(config) } else { 1 };
            if sums.counts.len() != matrices {
                let theirs = sums.counts.len();
                return Err(other(format!("tensor {name} has {theirs} matrices instead of {matrices}")));
            }
            let mut roles: Vec<Role> = ids.iter().map(|id| role_of(*id)).collect();
            roles.dedup();
            for role in roles {
                let form = config.form(Container::Gguf, TensorId::Layer(layer, role));
                let rows = sums.sums.chunks_exact(width.max(1));
                let rows = rows.map(|row| form.columns_read(row)).collect::<Result<Vec<_>>>()?;
                own.insert(
                    role,
                    RoleImportances::new(width, rows.concat(), sums.counts.clone(), is_of_experts)?,
                );
            }
        }
        for (layer, own) in layers.iter().enumerate() {
            let missing =
                products(config, layer)?.into_iter().find(|role| !role.is_small() && !own.contains_key(role));
            if let Some(role) = missing {
                let name = name_of(layer, role, of_experts(config, layer, role)?, config)?;
                return Err(other(format!("tensor {name} is not in it")));
            }
        }
        Ok(Self {
            layers: layers.into_iter().map(|own| Arc::new(LayerImportances(own))).collect(),
            datasets: imatrix.datasets.clone(),
            sequences: imatrix.chunk_count,
            tokens: imatrix.chunk_size,
        })
    }

    /// Returns the importances of the layers `new`, if these are those of the original: a layer that is a copy has those of
    /// the layer that it is a copy of, a merged layer those of the layer of largest weight. An expert that is mixed of
    /// several has the sums of all of them.
    ///
    /// # Errors
    /// [`Error::Internal`] if a layer is made of no layers, or of one that does not exist.
    pub fn of_layers(&self, new: &[NewLayer]) -> Result<Self> {
        let original =
            |layer: usize| self.layers.get(layer).or_internal("a layer of the original has no importances");
        let of_layer = |new: &NewLayer| {
            let own = original(new.mix().survivor()?)?;
            let Some(experts) = new.experts() else { return Ok(own.clone()) };
            let mut columns = own.0.clone();
            for role in OF_EXPERTS {
                let Some(known) = own.of(role) else { continue };
                let (mut sums, mut counts) = (Vec::new(), Vec::new());
                for parts in experts.all() {
                    let (mut of_expert, mut tokens) = (vec![0f32; known.width], 0f32);
                    for part in parts {
                        let theirs = original(part.layer)?.of(role).and_then(|all| all.sums(part.expert));
                        let (theirs, count) = theirs.or_internal("an expert has no importances")?;
                        of_expert.iter_mut().zip(theirs).for_each(|(sum, more)| *sum += more);
                        tokens += count;
                    }
                    sums.extend(of_expert);
                    counts.push(tokens);
                }
                columns.insert(role, RoleImportances::new(known.width, sums, counts, true)?);
            }
            Ok(Arc::new(LayerImportances(columns)))
        };
        Ok(Self { layers: new.iter().map(of_layer).collect::<Result<_>>()?, ..self.clone() })
    }

    /// Returns the importance matrix of a GGUF file of the model whose layers these are, with the configuration `config`.
    ///
    /// # Errors
    /// [`Error::Internal`] if a matrix has no name in GGUF files.
    pub fn to_imatrix(&self, config: &Config) -> Result<Imatrix> {
        let mut tensors = BTreeMap::new();
        for (layer, own) in self.layers.iter().enumerate() {
            for (role, columns) in &own.0 {
                let form = config.form(Container::Gguf, TensorId::Layer(layer, *role));
                let rows = columns.sums.chunks_exact(columns.width);
                let rows = rows.map(|row| form.columns_written(row)).collect::<Result<Vec<_>>>()?;
                let sums =
                    InputSums { columns: columns.width, sums: rows.concat(), counts: columns.counts.clone() };
                // Matrices that lie in one tensor read the same.
                let name = name_of(layer, *role, columns.of_experts, config)?;
                tensors.entry(name).or_insert(sums);
            }
        }
        let (chunk_count, chunk_size) = (self.sequences, self.tokens);
        Ok(Imatrix { datasets: self.datasets.clone(), chunk_count, chunk_size, tensors })
    }
}

/// Returns the tensors of a model that a GGUF file holds under `name`; nothing if no such model has the tensor.
fn ids(name: &str, config: &Config) -> Vec<TensorId> {
    let architecture = config.architecture;
    match TensorId::parse(Container::Gguf, architecture, name) {
        Some(id) => vec![id],
        None => {
            let joined = TensorId::parse_joined(Container::Gguf, architecture, name);
            joined.map(|joined| joined.ids(config)).unwrap_or_default()
        }
    }
}

fn role_of(id: TensorId) -> Role {
    match id {
        TensorId::Layer(_, role) | TensorId::Expert(_, _, role) => role,
        // Tensors outside the layers are no products of a layer.
        _ => Role::RotaryFrequencies,
    }
}

fn width(id: TensorId, config: &Config) -> usize {
    let shape = id.shape(config);
    shape.last().and_then(|n| usize::try_from(*n).ok()).unwrap_or(0)
}

fn experts(config: &Config) -> usize {
    config.experts.map_or(0, |experts| experts.count)
}

/// Returns whether the matrices of `role` in a layer are those of its experts.
fn of_experts(config: &Config, layer: usize, role: Role) -> Result<bool> {
    Ok(config.kind(layer)?.feed_forward == FeedForward::Experts && OF_EXPERTS.contains(&role))
}

/// Returns the roles of the matrices by which something is multiplied in a layer, those of experts among them.
fn products(config: &Config, layer: usize) -> Result<Vec<Role>> {
    let kind = config.kind(layer)?;
    let mut roles = Role::required(config, kind);
    // Convolutions and decays are no products. llama.cpp collects nothing for what is no tensor of a layer in its files, and
    // does not quantise it, either.
    roles.retain(|role| *role != Role::InputProjection);
    roles.retain(|role| role.shape(config, kind).len() == 2 && (role.is_router() || !role.is_small()));
    if kind.feed_forward == FeedForward::Experts {
        roles.extend(OF_EXPERTS);
    }
    Ok(roles)
}

/// Returns the name in GGUF files of the tensor that holds the matrix of `role` of a layer, or that of all experts.
fn name_of(layer: usize, role: Role, of_experts: bool, config: &Config) -> Result<String> {
    let id = if of_experts { TensorId::Expert(layer, 0, role) } else { TensorId::Layer(layer, role) };
    let (container, architecture) = (Container::Gguf, config.architecture);
    let joined = id.joined(container, architecture).map(|(name, _)| name);
    let name = joined.or_else(|| id.name(container, architecture));
    name.or_internal("a matrix has no name in GGUF files")
}
