// Writes what torch.save(obj, _use_new_zipfile_serialization=False) writes: any tree of plain
// values and tensors, as notebooks save them. The writer of the product writes flat state_dicts
// only.
//
//   pickles of a magic number, the protocol, the machine, obj, the keys of its storages; then each
//   storage: int64 number of elements, elements
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "server/formats/file.h"
#include "server/tensor/torch.h"

namespace featurescope {

struct PyValue;
using PyDict = std::vector<std::pair<std::string, PyValue>>;
struct PyValue {
  std::variant<std::monostate, bool, int, double, std::string, torch::Tensor, PyDict> value;

  PyValue() = default;
  PyValue(bool b) : value(b) {}                      // NOLINT: reads as Python does
  PyValue(int i) : value(i) {}                       // NOLINT
  PyValue(double d) : value(d) {}                    // NOLINT
  PyValue(const char* s) : value(std::string(s)) {}  // NOLINT
  PyValue(torch::Tensor t) : value(std::move(t)) {}  // NOLINT
  PyValue(PyDict d) : value(std::move(d)) {}         // NOLINT
};

class TorchSaver {
 public:
  static void Save(const std::string& path, const PyValue& root) {
    TorchSaver saver;
    // 0x1950a86a20f9469cfc6c, 1001 and {"little_endian": True}.
    saver.bytes_ = std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    saver.bytes_ += std::string("\x80\x02M\xe9\x03.\x80\x02}", 9);
    saver.PutText("little_endian");
    saver.bytes_ += "\x88s.";
    saver.bytes_ += "\x80\x02";
    saver.Put(root);
    saver.bytes_ += std::string(".\x80\x02](", 5);
    for (size_t i = 0; i < saver.storages_.size(); ++i) saver.PutText(std::to_string(i));
    saver.bytes_ += "e.";
    for (const torch::Tensor& storage : saver.storages_) {
      const int64_t n = storage.numel();
      saver.Append(&n, sizeof(n));
      saver.Append(storage.data_ptr(), storage.nbytes());
    }
    EXPECT_TRUE(WriteFileAtomically(path, saver.bytes_).ok());
  }

 private:
  void Append(const void* data, size_t n) { bytes_.append(static_cast<const char*>(data), n); }
  void PutInt(int64_t i) {
    const auto small = static_cast<int32_t>(i);
    bytes_ += 'J';
    Append(&small, sizeof(small));
  }
  void PutText(const std::string& text) {
    const auto n = static_cast<uint32_t>(text.size());
    bytes_ += 'X';
    Append(&n, sizeof(n));
    bytes_ += text;
  }
  void PutFloat(double value) {
    char raw[8];
    std::memcpy(raw, &value, 8);
    bytes_ += 'G';
    for (int i = 7; i >= 0; --i) bytes_ += raw[i];
  }
  void PutSizes(at::IntArrayRef sizes) {
    bytes_ += '(';
    for (const int64_t size : sizes) PutInt(size);
    bytes_ += 't';
  }
  void Put(const torch::Tensor& given) {
    const torch::Tensor tensor = given.contiguous();
    const char* storage = tensor.scalar_type() == torch::kFloat32   ? "FloatStorage"
                          : tensor.scalar_type() == torch::kFloat64 ? "DoubleStorage"
                          : tensor.scalar_type() == torch::kInt32   ? "IntStorage"
                                                                    : "LongStorage";
    bytes_ += "ctorch._utils\n_rebuild_tensor_v2\n((";
    PutText("storage");
    bytes_ += std::string("ctorch\n") + storage + "\n";
    PutText(std::to_string(storages_.size()));
    PutText("cpu");
    PutInt(tensor.numel());
    bytes_ += "NtQ";  // the whole storage
    PutInt(0);
    PutSizes(tensor.sizes());
    PutSizes(tensor.strides());
    bytes_ +=
        "\x89"
        "ccollections\nOrderedDict\n)RtR";
    storages_.push_back(tensor);
  }
  void Put(const PyValue& given) {
    if (const auto* b = std::get_if<bool>(&given.value)) {
      bytes_ += *b ? '\x88' : '\x89';
    } else if (const auto* i = std::get_if<int>(&given.value)) {
      PutInt(*i);
    } else if (const auto* d = std::get_if<double>(&given.value)) {
      PutFloat(*d);
    } else if (const auto* text = std::get_if<std::string>(&given.value)) {
      PutText(*text);
    } else if (const auto* tensor = std::get_if<torch::Tensor>(&given.value)) {
      Put(*tensor);
    } else if (const auto* dict = std::get_if<PyDict>(&given.value)) {
      bytes_ += "}(";
      for (const auto& [key, value] : *dict) {
        PutText(key);
        Put(value);
      }
      bytes_ += 'u';
    } else {
      bytes_ += 'N';
    }
  }

  std::string bytes_;
  std::vector<torch::Tensor> storages_;
};

}  // namespace featurescope
