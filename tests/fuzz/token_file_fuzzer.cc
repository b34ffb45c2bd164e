// Any bytes as the files of a corpus: refused, or every context can be asked for.
//
//   input  sidecar length, uint16 LE | documents length, uint8 | contexts length, uint8 |
//          corpus.json | documents.bin | contexts.bin | tokens.bin

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/formats/token_file.h"

namespace {

std::string MakeDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "featurescope_fuzz_XXXXXX").string();
  if (mkdtemp(&name[0]) == nullptr) abort();
  return name;
}

// Removed when the process ends.
struct Directory {
  const std::string path = MakeDirectory();
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

void Write(const std::string& path, absl::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  static const Directory directory;
  if (size < 4) return 0;
  absl::string_view rest(reinterpret_cast<const char*>(data) + 4, size - 4);
  const absl::string_view sidecar = rest.substr(0, data[0] | size_t{data[1]} << 8);
  rest.remove_prefix(sidecar.size());
  const absl::string_view documents = rest.substr(0, data[2]);
  rest.remove_prefix(documents.size());
  const absl::string_view contexts = rest.substr(0, data[3]);
  rest.remove_prefix(contexts.size());
  Write(directory.path + "/corpus.json", sidecar);
  Write(directory.path + "/documents.bin", documents);
  Write(directory.path + "/contexts.bin", contexts);
  Write(directory.path + "/tokens.bin", rest);

  const auto file = TokenFile::Open(directory.path);
  if (!file.ok()) return 0;
  std::vector<uint32_t> ids;
  uint64_t n_tokens = 0;
  for (uint64_t i = 0; i < (*file)->n_contexts(); ++i) {
    const absl::Status status = (*file)->Context(i, &ids);
    if (ids.empty() || ids.size() > (*file)->context_size()) abort();
    if ((*file)->ContextBegin(i) != n_tokens) abort();
    if (i == (*file)->heldout_contexts().begin && n_tokens != (*file)->n_train_tokens()) abort();
    n_tokens += ids.size();
    if (!status.ok()) continue;
    for (uint32_t id : ids) {
      if (id >= (*file)->vocab_size()) abort();
    }
  }
  if (n_tokens != (*file)->n_tokens()) abort();
  for (uint64_t i = 0; i < (*file)->n_documents(); ++i) {
    if ((*file)->DocumentOf((*file)->DocumentBegin(i)) != i) abort();
  }
  (void)(*file)->Verify();
  return 0;
}
