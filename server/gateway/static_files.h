// The built web app, held in memory: every answer is prepared when the server starts, so a request
// path is only ever a key into a map and never becomes a file name.
#pragma once

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/gateway/http_response.h"

namespace featurescope {

class StaticFiles {
 public:
  // Reads every regular file under `directory` (dot-files and symbolic links are left out). An
  // empty name or a directory without index.html gives a set that explains how to build the app.
  //
  //   errors  ResourceExhausted  more than 4096 files, or more than 256 MiB
  //           other              a file could not be read
  static absl::StatusOr<StaticFiles> Load(const std::string& directory);

  // The answer to a GET or HEAD for `path` (without query): the file; index.html for a page of the
  // app when `accept` names text/html; 304 when `if_none_match` holds the file's tag; else 404.
  // Gzip where `accept_encoding` allows it. The body is present for HEAD too.
  HttpResponse Find(absl::string_view path, absl::string_view accept,
                    absl::string_view accept_encoding, absl::string_view if_none_match) const;

  size_t size() const { return files_.size(); }

 private:
  struct File {
    GrpcWebMetadata headers;  // type, caching and security headers
    std::string tag;          // entity tag without quotes
    std::shared_ptr<const std::string> body;
    std::shared_ptr<const std::string> gzip;  // null: not worth it
  };

  static File Prepare(absl::string_view path, std::string bytes);

  absl::flat_hash_map<std::string, File> files_;  // by request path, e.g. "/assets/app-1a2b3c4d.js"
};

}  // namespace featurescope
