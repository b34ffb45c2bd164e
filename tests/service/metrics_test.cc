#include "server/service/metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST(MetricsTest, CountsCallsByMethodAndCode) {
  Metrics metrics;
  metrics.CallStarted("A.B");
  metrics.CallStarted("A.B");
  metrics.CallFinished("A.B", absl::StatusCode::kOk, absl::Milliseconds(3));
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_finished_total{method=\"A.B\",code=\"OK\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_in_flight{method=\"A.B\"} 1\n"));
}

TEST(MetricsTest, HistogramBucketsAreCumulativeAndEndWithAll) {
  Metrics metrics;
  for (double seconds : {0.0005, 0.004, 0.004, 100.0}) {
    metrics.CallStarted("A.B");
    metrics.CallFinished("A.B", absl::StatusCode::kOk, absl::Seconds(seconds));
  }
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_seconds_bucket{method=\"A.B\",le=\"0.001\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_seconds_bucket{method=\"A.B\",le=\"0.005\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_seconds_bucket{method=\"A.B\",le=\"30\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_seconds_bucket{method=\"A.B\",le=\"+Inf\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("featurescope_rpc_seconds_count{method=\"A.B\"} 4\n"));
}

TEST(MetricsTest, ReadingsAreTakenWhenRendered) {
  Metrics metrics;
  double value = 1;
  metrics.AddGauge("featurescope_x", "An x.", [&] { return value; });
  value = 7;
  EXPECT_THAT(
      metrics.Render(),
      HasSubstr("# HELP featurescope_x An x.\n# TYPE featurescope_x gauge\nfeaturescope_x 7\n"));
}

}  // namespace
}  // namespace featurescope
