// featurescope-server: reads its flags, starts the server, waits for SIGTERM or SIGINT.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_split.h"
#include "featurescope/v1/config.pb.h"
#include "server/app.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"

// Unset flags take their value from --config, and else the default that AppOptions gives.
ABSL_FLAG(absl::optional<std::string>, config, absl::nullopt,
          "textproto file of featurescope.v1.ServerConfig; flags override it");
ABSL_FLAG(absl::optional<std::string>, data_dir, absl::nullopt,
          "directory of the catalog, models, SAEs, indexes and jobs");
ABSL_FLAG(absl::optional<std::string>, listen, absl::nullopt,
          "HOST:PORT or unix:PATH for gRPC (127.0.0.1:50051)");
ABSL_FLAG(absl::optional<std::string>, http, absl::nullopt,
          "HOST:PORT for the web app, gRPC-Web and metrics (127.0.0.1:8080), or none");
ABSL_FLAG(absl::optional<std::string>, device, absl::nullopt, "cpu, cuda or cuda:N (cpu)");
ABSL_FLAG(absl::optional<std::string>, dtype, absl::nullopt,
          "what models compute in: float32 or bfloat16 (float32)");
ABSL_FLAG(absl::optional<std::string>, hub_endpoint, absl::nullopt,
          "where models and SAEs are pulled from (HF_ENDPOINT, else https://huggingface.co)");
ABSL_FLAG(absl::optional<int>, threads, absl::nullopt,
          "threads of computing on the CPU (0: all processors)");
ABSL_FLAG(absl::optional<std::string>, web_dir, absl::nullopt, "directory of the built web app");
ABSL_FLAG(absl::optional<std::string>, roots, absl::nullopt,
          "comma-separated directories from which clients may add files (/)");
ABSL_FLAG(absl::optional<uint64_t>, memory_budget_mb, absl::nullopt,
          "memory for loaded models and SAEs, in MiB (16384)");
ABSL_FLAG(absl::optional<absl::Duration>, drain, absl::nullopt,
          "how long running calls may take at shutdown (10s)");

namespace {

constexpr int kUsageError = 2;
constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxThreads = 1024;
constexpr uint64_t kMaxBudgetMb = 1 << 30;
constexpr absl::Duration kMaxDrain = absl::Hours(24);
constexpr char kUsage[] =
    "usage: featurescope-server --data_dir DIR [--listen HOST:PORT] [--http HOST:PORT] "
    "[--device cpu|cuda:0] [--config FILE]; --help lists all flags";

// Keeps where and what the first mistake of a text is.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text_.empty()) text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Blocks the signals in every thread that is started from here on; one thread waits for them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

absl::StatusOr<featurescope::v1::ServerConfig> ReadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, featurescope::ReadFile(path, kMaxConfigBytes));
  featurescope::v1::ServerConfig config;
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text, &config)) {
    return featurescope::InvalidArgument(path, ":", error.text());
  }
  return config;
}

template <typename T, typename U>
void Override(const absl::optional<T>& value, U* option) {
  if (value.has_value()) *option = *value;
}

// Ranges that the types do not say; `name` is that of the flag and of the field in the file.
template <typename T>
absl::Status CheckRange(absl::string_view name, T value, T least, T greatest) {
  if (value >= least && value <= greatest) return absl::OkStatus();
  return featurescope::InvalidArgument(name, " is ", value, ", must be in [", least, ", ", greatest,
                                       "]");
}

absl::Status CheckDrain(absl::Duration drain) {
  if (drain >= absl::ZeroDuration() && drain <= kMaxDrain) return absl::OkStatus();
  return featurescope::InvalidArgument("drain is ", absl::FormatDuration(drain),
                                       ", must be in [0s, ", absl::FormatDuration(kMaxDrain), "]");
}

// Defaults, overridden by the configuration file, overridden by flags.
absl::StatusOr<featurescope::AppOptions> Options() {
  featurescope::AppOptions options;
  options.allowed_roots = {"/"};
  if (const auto path = absl::GetFlag(FLAGS_config); path.has_value()) {
    ASSIGN_OR_RETURN(const featurescope::v1::ServerConfig config, ReadConfig(*path));
    if (config.has_data_dir()) options.data_dir = config.data_dir();
    if (config.has_listen()) options.listen = config.listen();
    if (config.has_http()) options.http = config.http();
    if (config.has_device()) options.device = config.device();
    if (config.has_dtype()) options.dtype = config.dtype();
    if (config.has_hub_endpoint()) options.hub_endpoint = config.hub_endpoint();
    if (config.has_threads()) {
      RETURN_IF_ERROR(CheckRange<int64_t>("threads", config.threads(), 0, kMaxThreads));
      options.threads = static_cast<int>(config.threads());
    }
    if (config.has_web_dir()) options.web_dir = config.web_dir();
    if (config.roots_size() > 0)
      options.allowed_roots = {config.roots().begin(), config.roots().end()};
    if (config.has_memory_budget_mb()) {
      RETURN_IF_ERROR(
          CheckRange<uint64_t>("memory_budget_mb", config.memory_budget_mb(), 0, kMaxBudgetMb));
      options.memory_budget_bytes = config.memory_budget_mb() << 20;
    }
    if (config.has_drain_seconds()) options.drain = absl::Seconds(config.drain_seconds());
  }
  Override(absl::GetFlag(FLAGS_data_dir), &options.data_dir);
  Override(absl::GetFlag(FLAGS_listen), &options.listen);
  Override(absl::GetFlag(FLAGS_http), &options.http);
  Override(absl::GetFlag(FLAGS_device), &options.device);
  Override(absl::GetFlag(FLAGS_dtype), &options.dtype);
  Override(absl::GetFlag(FLAGS_hub_endpoint), &options.hub_endpoint);
  Override(absl::GetFlag(FLAGS_threads), &options.threads);
  Override(absl::GetFlag(FLAGS_web_dir), &options.web_dir);
  Override(absl::GetFlag(FLAGS_drain), &options.drain);
  if (const auto roots = absl::GetFlag(FLAGS_roots); roots.has_value()) {
    options.allowed_roots = absl::StrSplit(*roots, ',', absl::SkipEmpty());
  }
  if (const auto budget = absl::GetFlag(FLAGS_memory_budget_mb); budget.has_value()) {
    RETURN_IF_ERROR(CheckRange<uint64_t>("memory_budget_mb", *budget, 0, kMaxBudgetMb));
    options.memory_budget_bytes = *budget << 20;
  }
  RETURN_IF_ERROR(CheckRange<int64_t>("threads", options.threads, 0, kMaxThreads));
  RETURN_IF_ERROR(CheckDrain(options.drain));
  if (options.data_dir.empty()) {
    return featurescope::InvalidArgument("--data_dir is missing; ", kUsage);
  }
  if (options.http == "none") options.http.clear();
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  using featurescope::App;
  absl::SetProgramUsageMessage("featurescope-server --data_dir DIR [flags]");
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    fprintf(stderr, "unexpected argument \"%s\"; %s\n", rest[1], kUsage);
    return kUsageError;
  }
  const absl::StatusOr<featurescope::AppOptions> options = Options();
  if (!options.ok()) {
    fprintf(stderr, "%s\n", std::string(options.status().message()).c_str());
    return kUsageError;
  }

  sigset_t signals = BlockSignals();
  absl::StatusOr<std::unique_ptr<App>> app = App::Start(*options);
  if (!app.ok()) {
    featurescope::LogError(app.status().message());
    return EXIT_FAILURE;
  }
  featurescope::LogInfo("serving gRPC on port ", (*app)->grpc_port(), ", HTTP on port ",
                        (*app)->http_port());
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  featurescope::LogInfo("signal ", signal_number, ": finishing; a second one ends at once");
  std::thread([&signals] {
    int again = 0;
    sigwait(&signals, &again);
    _exit(EXIT_FAILURE);
  }).detach();
  (*app)->Stop();
  app->reset();
  featurescope::LogInfo("stopped");
  return EXIT_SUCCESS;
}
