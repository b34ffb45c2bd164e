// Directories and hand-made files for the tests of formats and text.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/base/temp_dir.h"

namespace featurescope {

inline std::string WriteBytes(const std::string& path, absl::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

inline std::string ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

// A safetensors file from its header's text and its data.
inline std::string SafetensorsBytes(absl::string_view header, absl::string_view data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(&bytes[0], &length, 8);
  bytes.append(header.data(), header.size());
  bytes.append(data.data(), data.size());
  return bytes;
}

// A file of the repository, e.g. "deploy/demo/tokenizer.json".
inline std::string SourcePath(const std::string& name) {
  return std::string(FEATURESCOPE_SOURCE_DIR) + "/" + name;
}

// A file of the data that is kept beside the repository; may be missing.
inline std::string SharedPath(const std::string& name) {
  const char* shared = getenv("FEATURESCOPE_SHARED");
  return (shared != nullptr ? std::string(shared)
                            : std::string(FEATURESCOPE_SOURCE_DIR) + "/../shared") +
         "/" + name;
}

}  // namespace featurescope
