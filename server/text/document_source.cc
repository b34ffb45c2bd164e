#include "server/text/document_source.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

struct Signature {
  absl::string_view bytes;
  absl::string_view what;
};

constexpr Signature kSignatures[] = {
    {"\x1f\x8b", "a gzip archive inside of another file; unpack it first"},
    {"\x28\xb5\x2f\xfd", "a zstd archive inside of another file; unpack it first"},
    {"PK\x03\x04", "a zip archive; unpack it first"},
    {"BZh", "a bzip2 archive; unpack it first"},
    {"\xfd"
     "7zXZ",
     "an xz archive; unpack it first"},
    {"PAR1", "a Parquet file; export it as .jsonl"},
    {"ARROW1", "an Arrow file; export it as .jsonl"},
    {"\xff\xfe", "UTF-16 text; convert it to UTF-8"},
    {"\xfe\xff", "UTF-16 text; convert it to UTF-8"},
};

// What a file that is no text is; empty for text.
std::string FormatBehind(absl::string_view begin) {
  for (const Signature& signature : kSignatures) {
    if (absl::StartsWith(begin, signature.bytes)) return std::string(signature.what);
  }
  if (begin.size() > 262 && begin.substr(257, 5) == "ustar") {
    return "a tar archive; unpack it first";
  }
  return "";
}

}  // namespace

absl::Status CheckIsText(absl::string_view bytes, bool begins_file, const std::string& where) {
  const std::string format = begins_file ? FormatBehind(bytes) : "";
  if (!format.empty()) return InvalidArgument(where, ": is ", format);
  const size_t nul = bytes.find('\0');
  if (nul == absl::string_view::npos) return absl::OkStatus();
  return InvalidArgument(where, ": is a binary file (a NUL byte at offset ", nul, ")");
}

absl::StatusOr<std::shared_ptr<DocumentSource>> DocumentSource::Open(
    const CorpusFile& file, const DocumentOptions& options) {
  ASSIGN_OR_RETURN(CompressedFile opened, OpenCorpusFile(file));
  switch (file.format) {
    case DocumentFormat::kText:
      return OpenTextDocuments(std::move(opened), options);
    case DocumentFormat::kJsonLines:
      return OpenJsonLines(std::move(opened), options);
    case DocumentFormat::kCsv:
      return OpenCsv(std::move(opened), options, ',');
    case DocumentFormat::kTsv:
      return OpenCsv(std::move(opened), options, '\t');
    case DocumentFormat::kByName:
      break;
  }
  return Internal(file.name, ": the format of a file is not known");
}

}  // namespace featurescope
