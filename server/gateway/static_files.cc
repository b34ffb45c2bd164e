#include "server/gateway/static_files.h"

#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/hash.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kMaxFiles = 4096;
constexpr uintmax_t kMaxBytes = uintmax_t{256} << 20;
constexpr size_t kMinGzipBytes = 1024;

// Styles: the app sets inline style attributes (widths of bars, colours of tokens).
constexpr absl::string_view kContentSecurityPolicy =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'";

constexpr absl::string_view kNotBuilt =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Featurescope</title>"
    "</head><body><h1>Featurescope</h1><p>The server is running, but the web app is not built: run "
    "<code>npm ci &amp;&amp; npm run build</code> in <code>web/</code> and restart the server.</p>"
    "<p>The gRPC interface and the <code>featurescope</code> command work without it.</p>"
    "</body></html>\n";

absl::string_view Extension(absl::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == absl::string_view::npos || path.find('/', dot) != absl::string_view::npos
             ? absl::string_view()
             : path.substr(dot + 1);
}

absl::string_view ContentType(absl::string_view path) {
  static constexpr std::pair<absl::string_view, absl::string_view> kTypes[] = {
      {"html", "text/html; charset=utf-8"},
      {"js", "text/javascript; charset=utf-8"},
      {"mjs", "text/javascript; charset=utf-8"},
      {"css", "text/css; charset=utf-8"},
      {"json", "application/json"},
      {"map", "application/json"},
      {"svg", "image/svg+xml"},
      {"png", "image/png"},
      {"jpg", "image/jpeg"},
      {"webp", "image/webp"},
      {"ico", "image/x-icon"},
      {"woff2", "font/woff2"},
      {"woff", "font/woff"},
      {"txt", "text/plain; charset=utf-8"},
      {"wasm", "application/wasm"},
      {"webmanifest", "application/manifest+json"},
  };
  const std::string extension = absl::AsciiStrToLower(Extension(path));
  for (const auto& [name, type] : kTypes) {
    if (extension == name) return type;
  }
  return "application/octet-stream";
}

bool IsCompressible(absl::string_view content_type) {
  return absl::StartsWith(content_type, "text/") || absl::StrContains(content_type, "json") ||
         absl::StrContains(content_type, "svg") || absl::StrContains(content_type, "wasm");
}

// Whether the build put a hash of the content into the name: assets/NAME-XXXXXXXX.ext.
bool IsHashedName(absl::string_view path) {
  if (!absl::StartsWith(path, "/assets/")) return false;
  absl::string_view stem = path.substr(path.rfind('/') + 1);
  absl::ConsumeSuffix(&stem, ".map");
  stem = stem.substr(0, stem.rfind('.'));
  constexpr size_t kHash = 8;
  return stem.size() > kHash + 1 && stem[stem.size() - kHash - 1] == '-';
}

// The gzip form of `bytes`; empty when zlib fails or nothing is won.
std::string Gzip(absl::string_view bytes) {
  z_stream stream = {};
  constexpr int kGzipWindow = 15 + 16;
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzipWindow, 9, Z_DEFAULT_STRATEGY) !=
      Z_OK) {
    return "";
  }
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return result == Z_STREAM_END && out.size() < bytes.size() ? out : "";
}

absl::StatusOr<std::string> ReadWholeFile(const std::filesystem::path& path, uintmax_t size) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes(size, '\0');
  if (!in.read(bytes.data(), static_cast<std::streamsize>(size))) {
    return FailedPrecondition("cannot read ", path.string());
  }
  return bytes;
}

// Whether a comma-separated header names `token` without a weight of zero.
bool Accepts(absl::string_view header, absl::string_view token) {
  for (absl::string_view item : absl::StrSplit(header, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(item, ';');
    if (!absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(parts[0]), token)) continue;
    for (size_t i = 1; i < parts.size(); ++i) {
      absl::string_view weight = absl::StripAsciiWhitespace(parts[i]);
      if (absl::ConsumePrefix(&weight, "q=") &&
          weight.find_first_not_of("0.") == absl::string_view::npos) {
        return false;
      }
    }
    return true;
  }
  return false;
}

bool HoldsTag(absl::string_view if_none_match, absl::string_view quoted_tag) {
  for (absl::string_view item : absl::StrSplit(if_none_match, ',')) {
    item = absl::StripAsciiWhitespace(item);
    absl::ConsumePrefix(&item, "W/");
    if (item == quoted_tag || item == "*") return true;
  }
  return false;
}

}  // namespace

StaticFiles::File StaticFiles::Prepare(absl::string_view path, std::string bytes) {
  File file;
  const absl::string_view type = ContentType(path);
  file.tag = Sha256Hex(bytes).substr(0, 24);
  file.headers = {
      {"Content-Type", std::string(type)},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "same-origin"},
      {"Cache-Control", IsHashedName(path) ? "public, max-age=31536000, immutable" : "no-cache"}};
  if (absl::StartsWith(type, "text/html")) {
    file.headers.emplace_back("Content-Security-Policy", std::string(kContentSecurityPolicy));
  }
  if (IsCompressible(type)) {
    file.headers.emplace_back("Vary", "Accept-Encoding");
    if (bytes.size() >= kMinGzipBytes) {
      std::string gzip = Gzip(bytes);
      if (!gzip.empty()) file.gzip = std::make_shared<const std::string>(std::move(gzip));
    }
  }
  file.body = std::make_shared<const std::string>(std::move(bytes));
  return file;
}

absl::StatusOr<StaticFiles> StaticFiles::Load(const std::string& directory) {
  namespace fs = std::filesystem;
  StaticFiles set;
  std::error_code error;
  const fs::path root(directory);
  if (directory.empty() || !fs::is_regular_file(root / "index.html", error)) return set;
  uintmax_t total = 0;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error)) {
    const bool hidden = absl::StartsWith(it->path().filename().string(), ".");
    if (it->is_symlink(error) || hidden) {
      it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file(error)) continue;
    const uintmax_t size = it->file_size(error);
    if (error) break;
    if (set.files_.size() >= kMaxFiles || size > kMaxBytes - total) {
      return ResourceExhausted("the web app in ", directory, " holds more than ", kMaxFiles,
                               " files or ", kMaxBytes >> 20, " MiB");
    }
    total += size;
    ASSIGN_OR_RETURN(std::string bytes, ReadWholeFile(it->path(), size));
    const std::string path =
        absl::StrCat("/", it->path().lexically_relative(root).generic_string());
    set.files_.emplace(path, Prepare(path, std::move(bytes)));
  }
  if (error) return ErrnoStatus(error.value(), directory);
  return set;
}

HttpResponse StaticFiles::Find(absl::string_view path, absl::string_view accept,
                               absl::string_view accept_encoding,
                               absl::string_view if_none_match) const {
  const bool is_page = absl::StrContains(absl::AsciiStrToLower(accept), "text/html");
  if (files_.empty() && (is_page || path == "/")) {
    return TextResponse(503, std::string(kNotBuilt), "text/html; charset=utf-8");
  }
  auto found = files_.find(path == "/" ? "/index.html" : path);
  if (found == files_.end() && is_page && !absl::StartsWith(path, "/assets/")) {
    found = files_.find("/index.html");
  }
  if (found == files_.end()) return TextResponse(404, "not found\n");

  const File& file = found->second;
  const bool gzip = file.gzip != nullptr && Accepts(accept_encoding, "gzip");
  const std::string quoted = absl::StrCat("\"", file.tag, gzip ? "-gz" : "", "\"");
  HttpResponse response;
  response.headers = file.headers;
  response.headers.emplace_back("ETag", quoted);
  if (HoldsTag(if_none_match, quoted)) {
    response.status = 304;
    return response;
  }
  if (gzip) response.headers.emplace_back("Content-Encoding", "gzip");
  response.body = gzip ? file.gzip : file.body;
  return response;
}

}  // namespace featurescope
