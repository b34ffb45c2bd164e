// Any bytes as a torch.save file: refused, or every element of every tensor can be read.
//
//   input  'p' and the opcodes of a data.pkl, which is put into an archive with one storage of 64
//          bytes named "0"; or a whole file

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/formats/torch_file.h"
#include "tests/formats/pickle_bytes.h"

namespace featurescope {
namespace {

// Reads the first and the last element of each tensor.
void CheckTensors(const TorchFile& file, const TorchValue& value) {
  if (const std::vector<TorchValue>* items = value.AsSequence()) {
    for (const TorchValue& item : *items) CheckTensors(file, item);
  }
  if (const TorchValue::Dict* dict = value.AsDict()) {
    if (dict->keys.size() != dict->values.size()) abort();
    for (size_t i = 0; i < dict->keys.size(); ++i) {
      const std::string* key = dict->keys[i].AsString();
      if (key != nullptr && value.Find(*key) != &dict->values[i]) abort();
      CheckTensors(file, dict->values[i]);
    }
  }
  const TorchTensor* tensor = value.AsTensor();
  if (tensor == nullptr) return;
  const TorchStorage& storage = file.storage_of(*tensor);
  const int64_t n = tensor->n_elements();
  if (n < 0 || static_cast<uint64_t>(n) > storage.n_elements) abort();
  (void)tensor->is_contiguous();
  if (n == 0) return;
  int64_t last = tensor->offset;
  for (size_t i = 0; i < tensor->shape.size(); ++i) {
    last += (tensor->shape[i] - 1) * tensor->strides[i];
  }
  char element[8];
  const size_t bytes = static_cast<size_t>(DTypeSize(tensor->dtype));
  for (int64_t at : {tensor->offset, last}) {
    if (!file.Read(storage, static_cast<uint64_t>(at) * bytes, absl::MakeSpan(element, bytes))
             .ok()) {
      abort();
    }
  }
}

void Check(const std::string& bytes) {
  const UniqueFd memory(memfd_create("torch_file", MFD_CLOEXEC));
  if (write(memory.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    abort();
  }
  const std::string path = absl::StrCat("/proc/self/fd/", memory.get());
  const absl::StatusOr<TorchFile> file = TorchFile::Open(path);
  if (!file.ok()) return;
  if (!TorchFile::LooksLikeTorchFile(path)) abort();
  for (const TorchStorage& storage : file->storages()) {
    if (storage.file_offset + storage.bytes > bytes.size()) abort();
    (void)file->Verify(storage);
  }
  CheckTensors(*file, file->root());
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const std::string input(reinterpret_cast<const char*>(data), size);
  if (size > 0 && input[0] == 'p') {
    Check(ZipBytes(TorchParts(input.substr(1), std::string(64, '\0'))));
  } else {
    Check(input);
  }
  return 0;
}
