//! The node tests of the ONNX project: every operator that we read gives, in the reference interpreter, what ONNX says; and
//! what is read is written and read back the same. Needs the shared test data.
#![allow(clippy::unwrap_used)]

#[path = "common/data.rs"]
mod data;

use std::fs;
use std::path::{Path, PathBuf};

use kinora::model::graph::Element;
use kinora::model::onnx::{graph_from_bytes, to_bytes};
use kinora::model::reference::{self, Tensor};
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use tract_onnx::pb::{ModelProto, TensorProto, tensor_proto::DataType};

/// Tests that cannot run, by the start of their names, and a part of the reason that must be given. The longest fit counts.
const EXCLUDED: [(&str, &str); 38] = [
    ("test_add_int16", "element type 5"),
    ("test_add_uint16", "element type 4"),
    ("test_add_uint32", "element type 12"),
    ("test_add_uint64", "element type 13"),
    ("test_mul_int16", "element type 5"),
    ("test_mul_uint16", "element type 4"),
    ("test_mul_uint32", "element type 12"),
    ("test_mul_uint64", "element type 13"),
    ("test_batchnorm_epsilon_training_mode", "trains"),
    ("test_batchnorm_example_training_mode", "trains"),
    ("test_convinteger_", "this operator is not read"),
    ("test_dequantizelinear_blocked", "per tensor or per channel"),
    ("test_dequantizelinear_int16", "data type 5"),
    ("test_dequantizelinear_uint16", "data type 4"),
    ("test_identity_opt", "no tensor"),
    ("test_identity_sequence", "no tensor"),
    ("test_lstm_", "this operator is not read"),
    ("test_matmulinteger", "this operator is not read"),
    ("test_qlinearconv", "this operator is not read"),
    ("test_qlinearmatmul_", "this operator is not read"),
    ("test_qlinearmatmul_2D_int8_float16", "data type 10"),
    ("test_qlinearmatmul_2D_uint8_float16", "data type 10"),
    ("test_qlinearmatmul_3D_int8_float16", "data type 10"),
    ("test_qlinearmatmul_3D_uint8_float16", "data type 10"),
    ("test_quantizelinear_blocked_", "per tensor or per channel"),
    ("test_quantizelinear_int16", "data type 5"),
    ("test_quantizelinear_uint16", "data type 4"),
    ("test_reshape_allowzero_reordered", "fixed sizes"),
    ("test_resize_downsample_scales_cubic", "mode 'cubic'"),
    ("test_resize_downsample_scales_nearest", "mode 'nearest'"),
    ("test_resize_downsample_sizes_cubic", "mode 'cubic'"),
    ("test_resize_downsample_sizes_nearest", "mode 'nearest'"),
    ("test_resize_downsample_scales_linear_antialias", "antialias"),
    ("test_resize_downsample_sizes_linear_antialias", "antialias"),
    ("test_resize_upsample_scales_cubic", "mode 'cubic'"),
    ("test_resize_upsample_scales_nearest", "mode 'nearest'"),
    ("test_resize_upsample_sizes_cubic", "mode 'cubic'"),
    ("test_resize_upsample_sizes_nearest", "mode 'nearest'"),
];

/// Inputs that are parameters in our graphs: they become initialisers.
fn parameters(op: &str) -> std::ops::Range<usize> {
    match op {
        "Add" | "Mul" | "Concat" => 0..0,
        // As dense layer; with B from outside it is a matrix product, which is tried as well.
        _ => 1..16,
    }
}

#[test]
fn onnx_node_tests() {
    let Some(folder) = data::folder("onnx_node_tests", "onnx") else { return };
    let mut tests: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    tests.sort();
    let (mut ran, mut wrong) = (0, vec![]);
    for test in &tests {
        let name = test.file_name().unwrap().to_str().unwrap();
        let expected =
            EXCLUDED.iter().filter(|(start, _)| name.starts_with(start)).max_by_key(|(start, _)| start.len());
        match (check(test), expected) {
            (Ok(()), None) => ran += 1,
            (Err(why), Some((_, reason))) if why.contains(reason) => println!("{name} does not run: {why}"),
            (result, _) => wrong.push(format!("{name}: {result:?}, expected {expected:?}")),
        }
    }
    println!("{ran} of {} run", tests.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran >= 180, "{ran} of {} run", tests.len());
}

fn check(test: &Path) -> Result<(), String> {
    let model = ModelProto::decode(fs::read(test.join("model.onnx")).unwrap().as_slice()).unwrap();
    let op = model.graph.as_ref().unwrap().node[0].op_type.clone();
    compare(test, model.clone(), parameters(&op))?;
    if op == "Gemm" { compare(test, model, 0..0) } else { Ok(()) }
}

fn compare(test: &Path, mut model: ModelProto, parameters: std::ops::Range<usize>) -> Result<(), String> {
    let graph = model.graph.as_mut().unwrap();
    // Mean and deviation of a normalisation and indices of a maximum are not computed: the first output is compared.
    graph.output.truncate(1);
    let fixed: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    let wanted: Vec<String> =
        graph.input.iter().map(|input| input.name.clone()).filter(|name| !fixed.contains(name)).collect();
    let mut inputs = vec![];
    for (index, name) in wanted.iter().enumerate() {
        let file = test.join(format!("test_data_set_0/input_{index}.pb"));
        let Ok(mut tensor) = TensorProto::decode(fs::read(file).unwrap().as_slice()) else {
            inputs.push(None);
            continue;
        };
        let place = graph.node[0].input.iter().position(|input| input == name).unwrap();
        if parameters.contains(&place) {
            graph.input.retain(|input| input.name != *name);
            tensor.name = name.clone();
            graph.initializer.push(tensor);
        } else {
            inputs.push(decode(&tensor));
        }
    }
    let (graph, weights) = graph_from_bytes(&model.encode_to_vec()).map_err(|error| error.to_string())?;
    let inputs = inputs.into_iter().collect::<Option<Vec<_>>>().ok_or("an input is of another type")?;
    let outputs = reference::run(&graph, &weights, &inputs).map_err(|error| error.to_string())?;
    let output = fs::read(test.join("test_data_set_0/output_0.pb")).unwrap();
    let wanted = decode(&TensorProto::decode(output.as_slice()).unwrap()).ok_or("the output is of another type")?;
    // This one's wanted values are written with four decimals.
    let coarse = test.ends_with("test_averagepool_2d_ceil_last_window_starts_on_pad");
    same(&outputs[0], &wanted, if coarse { 1e-3 } else { 1e-5 })?;
    match to_bytes(&graph, &weights) {
        Ok(bytes) => {
            let again = graph_from_bytes(&bytes).map_err(|error| format!("written and read: {error}"))?;
            if again == (graph, weights) { Ok(()) } else { Err(format!("read back as another graph: {again:?}")) }
        }
        Err(error) if error.to_string().contains("dilated means") => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn same(got: &Tensor, wanted: &Tensor, relative: f64) -> Result<(), String> {
    if got.element != wanted.element || got.values.shape() != wanted.values.shape() {
        let of = |tensor: &Tensor| format!("{} {:?}", tensor.element, tensor.values.shape());
        return Err(format!("{} computed, {} wanted", of(got), of(wanted)));
    }
    let near = |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 1e-6 + relative * b.abs();
    match got
        .values
        .iter()
        .zip(&wanted.values)
        .find(|pair| !near(*pair) || (got.element != Element::F32 && pair.0 != pair.1))
    {
        Some((a, b)) => Err(format!("{a} computed, {b} wanted")),
        None => Ok(()),
    }
}

/// A tensor of the types that we have.
fn decode(tensor: &TensorProto) -> Option<Tensor> {
    let raw = &tensor.raw_data;
    let given = || tensor.int32_data.iter().map(|&n| f64::from(n)).collect();
    let (element, values): (Element, Vec<f64>) = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float if raw.is_empty() => (Element::F32, tensor.float_data.iter().map(|&x| f64::from(x)).collect()),
        DataType::Float => {
            (Element::F32, raw.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect())
        }
        DataType::Uint8 if raw.is_empty() => (Element::U8, given()),
        DataType::Uint8 => (Element::U8, raw.iter().map(|&n| f64::from(n)).collect()),
        DataType::Int8 if raw.is_empty() => (Element::I8, given()),
        DataType::Int8 => (Element::I8, raw.iter().map(|&n| f64::from(n as i8)).collect()),
        _ => return None,
    };
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
    Some(Tensor { element, values: ArrayD::from_shape_vec(IxDyn(&shape), values).ok()? })
}
