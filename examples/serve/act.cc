// Acts with an exported policy in C++: three steps of an episode in which every observation is 1
// and every action is legal. It prints each agent's action, a line a step.
//
// docs/serving.md shows how to compile it with the libraries of TensorFlow's Python package.
#include <iostream>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session_options.h"

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: act FOLDER\n";
    return 2;
  }
  tensorflow::SavedModelBundle model;
  const auto status = tensorflow::LoadSavedModel(
      tensorflow::SessionOptions(), tensorflow::RunOptions(), arguments[1],
      {"serve"}, &model);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  const auto& act = model.GetSignatures().at("act");
  // A size of -1 is free: one episode.
  const auto shape_of = [&](const std::string& name) {
    tensorflow::TensorShape shape;
    for (const auto& size : act.inputs().at(name).tensor_shape().dim()) {
      shape.AddDim(size.size() < 0 ? 1 : size.size());
    }
    return shape;
  };
  tensorflow::Tensor obs(tensorflow::DT_FLOAT, shape_of("obs"));
  tensorflow::Tensor legal(tensorflow::DT_BOOL, shape_of("legal"));
  tensorflow::Tensor hidden(tensorflow::DT_FLOAT, shape_of("hidden"));
  obs.flat<float>().setConstant(1.0f);
  legal.flat<bool>().setConstant(true);
  hidden.flat<float>().setZero();
  std::vector<tensorflow::Tensor> outputs;
  for (int step = 0; step < 3; ++step) {
    const auto run = model.GetSession()->Run(
        {{act.inputs().at("obs").name(), obs},
         {act.inputs().at("legal").name(), legal},
         {act.inputs().at("hidden").name(), hidden}},
        {act.outputs().at("action").name(), act.outputs().at("hidden").name()}, {}, &outputs);
    if (!run.ok()) {
      std::cerr << run.ToString() << "\n";
      return 1;
    }
    const auto actions = outputs[0].flat<int>();
    for (int i = 0; i < actions.size(); ++i) {
      std::cout << actions(i) << (i + 1 < actions.size() ? " " : "\n");
    }
    hidden = outputs[1];
  }
}
