#include "server/text/document_format.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

constexpr std::pair<absl::string_view, DocumentFormat> kEndings[] = {
    {".txt", DocumentFormat::kText},        {".text", DocumentFormat::kText},
    {".jsonl", DocumentFormat::kJsonLines}, {".ndjson", DocumentFormat::kJsonLines},
    {".json", DocumentFormat::kJsonLines},  {".csv", DocumentFormat::kCsv},
    {".tsv", DocumentFormat::kTsv},
};

constexpr std::pair<absl::string_view, Compression> kCompressionEndings[] = {
    {".gz", Compression::kGzip},
    {".zst", Compression::kZstd},
    {".zstd", Compression::kZstd},
};

}  // namespace

absl::string_view DocumentFormatName(DocumentFormat format) {
  switch (format) {
    case DocumentFormat::kByName:
      return "";
    case DocumentFormat::kText:
      return "text";
    case DocumentFormat::kJsonLines:
      return "jsonl";
    case DocumentFormat::kCsv:
      return "csv";
    case DocumentFormat::kTsv:
      return "tsv";
  }
  return "";
}

absl::StatusOr<DocumentFormat> ParseDocumentFormat(absl::string_view name) {
  for (const DocumentFormat format :
       {DocumentFormat::kByName, DocumentFormat::kText, DocumentFormat::kJsonLines,
        DocumentFormat::kCsv, DocumentFormat::kTsv}) {
    if (name == DocumentFormatName(format)) return format;
  }
  return InvalidArgument("format \"", PrintableUtf8(name), "\" is none of text, jsonl, csv, tsv");
}

Compression CompressionOfName(absl::string_view file_name) {
  const std::string name = absl::AsciiStrToLower(BaseName(file_name));
  for (const auto& [ending, compression] : kCompressionEndings) {
    if (absl::EndsWith(name, ending)) return compression;
  }
  return Compression::kNone;
}

DocumentFormat FormatOfName(absl::string_view file_name) {
  std::string name = absl::AsciiStrToLower(BaseName(file_name));
  if (CompressionOfName(name) != Compression::kNone) name.resize(name.rfind('.'));
  for (const auto& [ending, format] : kEndings) {
    if (absl::EndsWith(name, ending)) return format;
  }
  return DocumentFormat::kByName;
}

}  // namespace featurescope
