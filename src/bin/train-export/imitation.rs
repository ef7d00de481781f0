//! Computing in floats as the quantised net will in integers, so that training can make up for the rounding: batch norms
//! folded by their running statistics, values and weights rounded, gradients passed on as if they were not (and stopped where
//! a value was cut off).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kinora::model::graph::{Graph, Node, Op};
use kinora::model::passes;
use tch::{Kind, Tensor};

use crate::quantize::Ranges;

/// What is rounded, and to which steps.
pub struct Imitation {
    ranges: Ranges,
    /// Batch norms by the name of the convolution that they follow: their names and what they add to the variance.
    norms: BTreeMap<String, (String, f32)>,
    /// The names, in the folded net, of values of batch norms.
    folded: BTreeMap<String, String>,
}

impl Imitation {
    /// For the net of `graph`, whose folded form has its values in `ranges`.
    pub fn new(graph: &Graph, ranges: Ranges) -> Self {
        let (mut norms, mut folded) = (BTreeMap::new(), BTreeMap::new());
        for (conv, norm) in passes::folds(graph) {
            let (conv, norm) = (graph.node(conv), graph.node(norm));
            if let Op::BatchNorm { eps } = norm.op {
                norms.insert(conv.name.clone(), (norm.name.clone(), eps));
                folded.insert(norm.name.clone(), conv.name.clone());
            }
        }
        Self { ranges, norms, folded }
    }

    /// Whether the batch norm `node` is part of the convolution before it.
    pub fn is_folded(&self, node: &Node) -> bool {
        self.folded.contains_key(&node.name)
    }

    /// The value `x` of `node`, rounded if it is quantised.
    ///
    /// # Errors
    /// When it cannot be computed.
    pub fn round(&self, node: &Node, x: Tensor) -> Result<Tensor> {
        // What leaves a convolution is rounded only behind its batch norm.
        let name =
            if self.norms.contains_key(&node.name) { None } else { self.folded.get(&node.name).or(Some(&node.name)) };
        let Some(q) = name.and_then(|name| self.ranges.get(name)) else { return Ok(x) };
        let (least, most) = q.element.range();
        let zero = i64::from(q.zero_point[0]);
        Ok(x.f_fake_quantize_per_tensor_affine(f64::from(q.scale[0]), zero, least.into(), most.into())?)
    }

    /// Weights and bias of the convolution `node`, with its batch norm folded in and the weights rounded. `parameter` finds
    /// a parameter by its name.
    ///
    /// # Errors
    /// When a parameter is missing.
    pub fn folded<'a>(
        &self,
        node: &Node,
        parameter: &dyn Fn(&str) -> Option<&'a Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let find = |name: String| parameter(&name).with_context(|| format!("no parameter '{name}'"));
        let weight = find(format!("{}.weight", node.name))?;
        let bias = parameter(&format!("{}.bias", node.name));
        let Some((norm, eps)) = self.norms.get(&node.name) else {
            return Ok((round_weights(weight)?, bias.map(Tensor::shallow_clone)));
        };
        let of = |suffix: &str| find(format!("{norm}.{suffix}"));
        let factor = of("weight")?.f_div(&of("running_var")?.f_add_scalar(f64::from(*eps))?.f_sqrt()?)?;
        let centred = match bias {
            Some(bias) => bias.f_sub(of("running_mean")?)?,
            None => of("running_mean")?.f_neg()?,
        };
        let bias = centred.f_mul(&factor)?.f_add(of("bias")?)?;
        Ok((round_weights(&weight.f_mul(&factor.f_reshape([-1, 1, 1, 1, 1])?)?)?, Some(bias)))
    }
}

/// Weights rounded to 127 steps to either side of zero for each output channel.
///
/// # Errors
/// When they cannot be computed.
pub fn round_weights(weight: &Tensor) -> Result<Tensor> {
    let channels = weight.size()[0];
    let largest =
        tch::no_grad(|| weight.f_detach()?.f_abs()?.f_reshape([channels, -1])?.f_amax([1].as_slice(), false))?;
    let scales = (largest / 127.0).f_clamp_min(1e-30)?;
    let zeros = Tensor::f_zeros([channels], (Kind::Int, weight.device()))?;
    Ok(weight.f_fake_quantize_per_channel_affine(&scales, &zeros, 0, -127, 127)?)
}
