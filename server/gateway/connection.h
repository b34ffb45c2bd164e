// One HTTP/1.1 connection, from accept to close. The only file behind it is the only one that
// compiles Boost.Beast.
#pragma once

// Asio in Boost 1.74 uses std::exchange without its header.
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <utility>

#include "server/gateway/gateway_context.h"

namespace featurescope {

class Connection {
 public:
  virtual ~Connection() = default;

  // Closes the connection if it waits for a request, else after its present answer. Any thread.
  virtual void CloseWhenIdle() = 0;

  // Ends a running call with UNAVAILABLE and closes after that. Any thread.
  virtual void EndCall() = 0;

  // Cancels and closes at once. Any thread.
  virtual void Abort() = 0;
};

// Serves `socket`, whose executor must be a strand. `peer` was admitted by `context`; the
// connection leaves when it ends.
void ServeConnection(boost::asio::ip::tcp::socket socket, std::string peer,
                     const std::shared_ptr<GatewayContext>& context);

}  // namespace featurescope
