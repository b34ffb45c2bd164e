// The server as a whole: catalog, device worker, job queue, gRPC server and gateway, wired
// together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace featurescope {

struct AppOptions {
  std::string data_dir;
  std::string listen = "127.0.0.1:50051";      // gRPC
  std::string http = "127.0.0.1:8080";         // web app, gRPC-Web, metrics; empty: none
  std::string device = "cpu";                  // cpu, cuda, cuda:N
  std::string dtype = "float32";               // of the models' forward pass: or bfloat16
  std::string hub_endpoint;                    // empty: HF_ENDPOINT, else https://huggingface.co
  int threads = 0;                             // of computing on the CPU; 0: all processors
  std::string web_dir;                         // the built web app
  std::vector<std::string> allowed_roots;      // from where files may be added
  uint64_t memory_budget_bytes = 16ull << 30;  // of loaded models and SAEs
  absl::Duration drain = absl::Seconds(10);    // how long running calls may take at shutdown
};

class App {
 public:
  // Opens the data directory, starts the worker, the job runner and both ports.
  static absl::StatusOr<std::unique_ptr<App>> Start(const AppOptions& options);
  // Stop().
  virtual ~App() = default;

  // Refuses new calls, lets running ones end, checkpoints the running job, closes everything.
  virtual void Stop() = 0;

  virtual int grpc_port() const = 0;
  virtual int http_port() const = 0;  // 0: none
};

}  // namespace featurescope
