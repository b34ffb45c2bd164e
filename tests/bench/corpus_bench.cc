// Text files to a corpus, against the tokenizer alone on one thread.
//
//   corpus_bench [MEGABYTES [ROUNDS]]
//
// `of tokenizer` is the speed of building over that of bare Encode calls on the same documents: on
// one thread 1 would be a corpus that costs nothing but tokens, and on n threads n. Both sides run
// in turn in one process; figures are medians of the rounds.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/formats/json.h"
#include "server/text/corpus_builder.h"
#include "tests/base/temp_dir.h"
#include "tests/formats/compressed_bytes.h"

namespace featurescope {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << value.status() << "\n";
    exit(1);
  }
  return *std::move(value);
}

// The demo corpus' documents, over and over; each repetition is told apart by a number, so that it
// is not one that was seen.
std::vector<std::string> Documents(size_t bytes) {
  std::ifstream in(FEATURESCOPE_SOURCE_DIR "/deploy/demo/corpus.jsonl");
  std::vector<std::string> texts;
  for (std::string line; std::getline(in, line);) {
    texts.push_back(OrDie(JsonString(OrDie(ParseJson(line, "demo")), "text", "demo")));
  }
  std::vector<std::string> documents;
  for (size_t i = 0, size = 0; size < bytes; ++i) {
    documents.push_back(absl::StrCat(texts[i % texts.size()], " ", i));
    size += documents.back().size();
  }
  return documents;
}

struct Input {
  std::string name;
  uint64_t bytes = 0;
};

std::vector<Input> WriteInputs(const std::vector<std::string>& documents, const TempDir& dir) {
  std::string jsonl;
  std::string csv = "id,text\n";
  std::string text;
  for (const std::string& document : documents) {
    absl::StrAppend(&jsonl, nlohmann::json{{"text", document}, {"label", 1}}.dump(), "\n");
    absl::StrAppend(&csv, "1,\"", absl::StrReplaceAll(document, {{"\"", "\"\""}}), "\"\n");
    absl::StrAppend(&text, document, "<|endoftext|>");
  }
  std::vector<Input> inputs;
  for (const auto& [name, bytes] :
       std::vector<std::pair<std::string, std::string>>{{"a.txt", text},
                                                        {"a.jsonl", jsonl},
                                                        {"a.csv", csv},
                                                        {"a.jsonl.gz", Gzip(jsonl)},
                                                        {"a.jsonl.zst", Zstd(jsonl)}}) {
    std::ofstream(dir / name, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    inputs.push_back({name, bytes.size()});
  }
  return inputs;
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Of each round.
struct Times {
  std::vector<double> seconds;
  std::vector<double> cpu_seconds;

  void Measure(const std::function<void()>& work) {
    const double cpu_begin = CpuSeconds();
    const absl::Time begin = absl::Now();
    work();
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - begin));
    cpu_seconds.push_back(CpuSeconds() - cpu_begin);
  }
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Build(const Tokenizer& tokenizer, const TempDir& dir, const std::string& name, int n_threads) {
  CorpusSpec spec;
  spec.paths = {dir / name};
  spec.text_separator = "<|endoftext|>";
  spec.prepend_bos = tokenizer.bos_id().has_value();
  spec.holdout = 0.01;
  spec.n_threads = n_threads;
  std::filesystem::remove_all(dir / "out");
  OrDie(BuildCorpus(spec, tokenizer, dir / "out", CorpusObserver(), CancelToken()));
}

void Run(size_t bytes, int n_rounds) {
  const TempDir dir;
  const auto tokenizer = OrDie(Tokenizer::Load(FEATURESCOPE_SOURCE_DIR "/deploy/demo"));
  const std::vector<std::string> documents = Documents(bytes);
  const std::vector<Input> inputs = WriteInputs(documents, dir);
  const auto n_cores = static_cast<int>(std::thread::hardware_concurrency());
  double text_bytes = 0;
  for (const std::string& document : documents) text_bytes += static_cast<double>(document.size());

  Times alone;
  std::vector<Times> one(inputs.size());
  std::vector<Times> all(inputs.size());
  for (int round = 0; round < n_rounds; ++round) {
    alone.Measure([&] {
      for (const std::string& document : documents) OrDie(tokenizer->Encode(document));
    });
    for (size_t i = 0; i < inputs.size(); ++i) {
      one[i].Measure([&] { Build(*tokenizer, dir, inputs[i].name, 1); });
      all[i].Measure([&] { Build(*tokenizer, dir, inputs[i].name, n_cores); });
    }
  }
  const double encode = Median(alone.seconds);
  const double encode_cpu = Median(alone.cpu_seconds);
  std::printf("%zu documents, %.1f MB of text, %d rounds; tokenizer alone %.1f MB/s\n",
              documents.size(), text_bytes / 1e6, n_rounds, text_bytes / encode / 1e6);
  std::printf("%-12s %8s %8s %8s %13s %6s\n", "input", "file MB", "threads", "MB/s", "of tokenizer",
              "cpu");
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const auto& [n_threads, times] : {std::pair{1, &one[i]}, std::pair{n_cores, &all[i]}}) {
      const double seconds = Median(times->seconds);
      std::printf("%-12s %8.1f %8d %8.1f %13.2f %6.2f\n", inputs[i].name.c_str(),
                  static_cast<double>(inputs[i].bytes) / 1e6, n_threads, text_bytes / seconds / 1e6,
                  encode / seconds, Median(times->cpu_seconds) / encode_cpu);
    }
  }
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) {
  const int megabytes = argc > 1 ? std::atoi(argv[1]) : 20;
  const int n_rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  if (megabytes < 1 || n_rounds < 1) {
    std::fprintf(stderr, "usage: corpus_bench [MEGABYTES [ROUNDS]]\n");
    return 2;
  }
  featurescope::Run(static_cast<size_t>(megabytes) << 20, n_rounds);
  return 0;
}
