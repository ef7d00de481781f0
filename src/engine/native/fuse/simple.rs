//! Layers that are no products: what moves elements, pools, functions of elements, layer norms.

use super::{FREE, Fuser, Quantized, extents, refuse, span};
use crate::Result;
use crate::engine::native::kernels::{Extents, Span};
use crate::engine::native::layers::Work;
use crate::model::graph::{CHANNELS_AND_COLUMNS, CHANNELS_FIRST, Node, Op, Pool, PoolFunction};
use crate::model::passes::norm_terms;

impl Fuser<'_> {
    /// The norm that alone reads the transposition `index`, and the one in the order `back` that alone reads the norm.
    fn norm_between(&self, index: usize, is_norm: fn(&Op) -> bool, back: [usize; 5]) -> Option<(usize, usize)> {
        let norm = self.reader(index).filter(|norm| is_norm(&self.node_at(*norm).op))?;
        let is_back = |op: &Op| matches!(op, Op::Transpose(order) if order[..] == back);
        let back = self.reader(norm).filter(|back| is_back(&self.node_at(*back).op))?;
        Some((norm, back))
    }

    /// A layer norm over the channels, which the node `index` brings last and another one back.
    pub(super) fn layer_norm(&mut self, index: usize) -> Result<()> {
        let input = self.input(self.node_at(index), 0)?;
        let is_norm = |op: &Op| matches!(op, Op::LayerNorm { axis: 4, .. });
        let Some((norm, back)) = self.norm_between(index, is_norm, CHANNELS_FIRST) else {
            return refuse(self.node_at(index), "only layer norms over the channels run here: choose --engine tract");
        };
        let node = self.node_at(norm);
        let list = |suffix: &str| self.parameter(node, suffix).map(|array| array.iter().copied().collect());
        let (Op::LayerNorm { eps, .. }, Some(weight), Some(bias)) = (&node.op, list("weight"), list("bias")) else {
            return refuse(node, "it has no weights");
        };
        let work = Work::LayerNorm { weight, bias, eps: *eps };
        [norm, back].into_iter().for_each(|part| self.fused[part] = true);
        let (end, quantized) = self.quantize(back);
        self.layer(index, end, work, vec![input], quantized)
    }

    /// What the batch norm `node` multiplies each of what it normalises by, and what it adds.
    pub(super) fn affine(&self, node: &Node) -> Result<(Vec<f32>, Vec<f32>)> {
        match norm_terms(node, self.weights) {
            Some(terms) => {
                Ok(terms.iter().map(|term| (term.factor as f32, (term.shift - term.mean * term.factor) as f32)).unzip())
            }
            None => refuse(node, "it has no weights"),
        }
    }

    /// A batch norm over the columns, which the node `index` lets change places with the channels, and another one back.
    pub(super) fn column_norm(&mut self, index: usize) -> Result<()> {
        let input = self.input(self.node_at(index), 0)?;
        let is_norm = |op: &Op| matches!(op, Op::BatchNorm { .. });
        let Some((norm, back)) = self.norm_between(index, is_norm, CHANNELS_AND_COLUMNS) else {
            return refuse(self.node_at(index), "only batch norms over columns run here: choose --engine tract");
        };
        let (factor, offset) = self.affine(self.node_at(norm))?;
        let channels = self.node_at(back).shape[1];
        let row = |list: Vec<f32>| list.into_iter().flat_map(|x| std::iter::repeat_n(x, channels)).collect();
        [norm, back].into_iter().for_each(|part| self.fused[part] = true);
        let (end, quantized) = self.quantize(back);
        let work = Work::Affine { factor: row(factor), offset: row(offset) };
        self.layer(index, end, work, vec![input], quantized)
    }

    /// A function of elements.
    pub(super) fn map(&mut self, index: usize, work: Work) -> Result<()> {
        let node = self.node_at(index);
        if node.inputs.iter().any(|input| self.graph.node(*input).shape != node.shape) {
            return refuse(node, "its inputs have not one shape: choose --engine tract");
        }
        let inputs = (0..node.inputs.len()).map(|n| self.input(node, n)).collect::<Result<_>>()?;
        let (end, quantized) = self.quantize(index);
        self.layer(index, end, work, inputs, quantized)
    }

    pub(super) fn pool(&mut self, index: usize, pool: &Pool) -> Result<()> {
        let node = self.node_at(index);
        let input = self.input(node, 0)?;
        if pool.kernel.len() != 3 || pool.ceil {
            return refuse(node, "only pools over T, H, W without a rest run here: choose --engine tract");
        }
        let extents = extents(&pool.kernel, &pool.stride, &pool.dilation, &pool.pad);
        if pool.function == PoolFunction::Max {
            return self.unchanged(index, Work::Max(extents), vec![input]);
        }
        if extents.pad != [(0, 0); 3] {
            return refuse(node, "only means without padding run here: choose --engine tract");
        }
        let given = self.network.values[input].quantized;
        let count: usize = extents.kernel.iter().product();
        if given.is_some() && count > i32::MAX as usize / 255 {
            return refuse(node, "too many elements for a sum of 32 bits");
        }
        let (scale, span, end, to) = self.average(index, given, count as f32)?;
        if given.is_some() && span.is_none() {
            return refuse(self.node_at(index), "its result is not quantised, so it would run in float");
        }
        let work = match extents {
            Extents { kernel: kernel @ [1, h, w], stride, dilation: [1, 1, 1], .. } if kernel == stride => {
                Work::AveragePool { kernel: [h, w], scale, span }
            }
            extents => Work::Average { extents, scale, span },
        };
        self.layer(index, end, work, vec![input], to)
    }

    /// What moves elements, which stay as they are: of integers the result has the scale of what is read.
    pub(super) fn unchanged(&mut self, index: usize, work: Work, inputs: Vec<usize>) -> Result<()> {
        let (end, to) = self.quantize(index);
        let mut given = inputs.iter().map(|input| self.network.values[*input].quantized);
        match given.all(|given| given == to) {
            true => self.layer(index, end, work, inputs, to),
            false => refuse(self.node_at(index), "its result is not quantised as what it reads: choose --engine tract"),
        }
    }

    pub(super) fn mean(&mut self, index: usize) -> Result<()> {
        let node = self.node_at(index);
        let input = self.input(node, 0)?;
        let (shape, quantized) = (self.network.values[input].shape, self.network.values[input].quantized);
        let count = shape[1..].iter().product::<usize>();
        let (scale, span, end, to) = self.average(index, quantized, count as f32)?;
        self.layer(index, end, Work::Mean { positions: shape[1], scale, span }, vec![input], to)
    }

    /// Factor, span, last node and quantisation of a mean of `count` elements.
    fn average(
        &mut self,
        index: usize,
        given: Option<Quantized>,
        count: f32,
    ) -> Result<(f32, Option<Span>, usize, Option<Quantized>)> {
        match given {
            None => Ok((1.0 / count, None, index, None)),
            Some((scale, _)) => match self.quantize(index) {
                (end, Some(to)) => Ok((scale / (count * to.0), Some(span(to, FREE)), end, Some(to))),
                (end, None) => Ok((scale / count, None, end, None)),
            },
        }
    }
}
