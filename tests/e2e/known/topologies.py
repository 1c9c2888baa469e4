"""Who calls whom in the applications of `applications`, one function each."""

from __future__ import annotations

from tests.e2e.known.applications import CLIENT, Application, Call, called, parsed

PAYPAL, WORDPRESS_ORG = "198.51.100.20", "198.51.100.40"
MONITORING = """
    prometheus app=prometheus web:9090 prometheus:9090:9090
"""


def sock_shop() -> Application:
    """Weaveworks' shop: labels by `name`, the front end listens on 8079 behind Service port 80."""
    shop = parsed("sock-shop", """
        front-end name=front-end http:8079 front-end:80:8079
        catalogue name=catalogue http:80 catalogue:80:80
        catalogue-db name=catalogue-db mysql:3306 catalogue-db:3306:3306
        carts name=carts http:80 carts:80:80
        carts-db name=carts-db mongo:27017 carts-db:27017:27017
        orders name=orders http:80 orders:80:80
        orders-db name=orders-db mongo:27017 orders-db:27017:27017
        payment name=payment http:80 payment:80:80
        user name=user http:80 user:80:80
        user-db name=user-db mongo:27017 user-db:27017:27017
        shipping name=shipping http:80 shipping:80:80
        queue-master name=queue-master http:80 queue-master:80:80
        rabbitmq name=rabbitmq rabbitmq:5672 rabbitmq:5672:5672
        session-db name=session-db redis:6379 session-db:6379:6379
    """)  # fmt: skip
    calls = called("sock-shop", f"""
        {CLIENT} > front-end:8079
        front-end > catalogue:80 carts:80 orders:80 user:80 session-db:6379
        orders > payment:80 user:80 carts:80 shipping:80 orders-db:27017
        catalogue > catalogue-db:3306
        carts > carts-db:27017
        user > user-db:27017
        shipping > rabbitmq:5672
        queue-master > rabbitmq:5672
        monitoring/prometheus > catalogue:80 carts:80 orders:80 payment:80 user:80
    """)  # fmt: skip
    return Application("sock-shop", shop + parsed("monitoring", MONITORING), calls, {})


def robot_shop() -> Application:
    """Instana's shop: labels by `service`, two databases, a broker, and a payment provider outside."""
    shop = parsed("robot-shop", """
        web service=web http:8080 web:8080:8080
        catalogue service=catalogue http:8080 catalogue:8080:8080
        user service=user http:8080 user:8080:8080
        cart service=cart http:8080 cart:8080:8080
        shipping service=shipping http:8080 shipping:8080:8080
        payment service=payment http:8080 payment:8080:8080
        ratings service=ratings http:80 ratings:80:80
        dispatch service=dispatch - -
        mongodb service=mongodb mongo:27017 mongodb:27017:27017
        mysql service=mysql mysql:3306 mysql:3306:3306
        redis service=redis redis:6379 redis:6379:6379
        rabbitmq service=rabbitmq tcp-amqp:5672,http:15672 rabbitmq:5672:5672
    """)  # fmt: skip
    calls = called("robot-shop", f"""
        {CLIENT} > web:8080
        web > catalogue:8080 user:8080 cart:8080 shipping:8080 payment:8080 ratings:80
        catalogue > mongodb:27017
        user > mongodb:27017 redis:6379
        cart > redis:6379 catalogue:8080
        shipping > mysql:3306 cart:8080
        payment > cart:8080 user:8080 rabbitmq:5672 {PAYPAL}:443
        ratings > mysql:3306 catalogue:8080
        dispatch > rabbitmq:5672
    """)  # fmt: skip
    return Application("robot-shop", shop, calls, {})


def guestbook() -> Application:
    """The guestbook of Kubernetes' tutorial: a leader, followers that replicate from it, and a front end."""
    book = parsed("default", """
        frontend app=guestbook,tier=frontend http:80 frontend:80:80
        redis-leader app=redis,role=leader,tier=backend redis:6379 redis-leader:6379:6379
        redis-follower app=redis,role=follower,tier=backend redis:6379 redis-follower:6379:6379
    """)  # fmt: skip
    calls = called("default", f"""
        {CLIENT} > frontend:80
        frontend > redis-leader:6379 redis-follower:6379
        redis-follower > redis-leader:6379
    """)  # fmt: skip
    return Application("guestbook", book, calls, {})


def wordpress() -> Application:
    """The tutorial's WordPress and its database, which asks for updates outside."""
    blog = parsed("blog", """
        wordpress app=wordpress,tier=frontend wordpress:80 wordpress:80:80
        wordpress-mysql app=wordpress,tier=mysql mysql:3306 wordpress-mysql:3306:3306
    """)  # fmt: skip
    calls = called("blog", f"""
        ingress/nginx > wordpress:80
        wordpress > wordpress-mysql:3306 {WORDPRESS_ORG}:443
    """)  # fmt: skip
    gateway = parsed("ingress", "nginx app.kubernetes.io/name=ingress-nginx http:80 nginx:80:80")
    return Application("wordpress", blog + gateway, calls, {"blog": {"team": "web"}})


def podinfo() -> Application:
    """Podinfo with its front end, backend and cache; metrics on a port of their own. One answer of the resolver is too
    long for a datagram, so the backend asks again over TCP."""
    info = parsed("test", """
        frontend app.kubernetes.io/name=frontend http:9898,http-metrics:9797,grpc:9999 frontend:9898:9898
        backend app.kubernetes.io/name=backend http:9898,http-metrics:9797,grpc:9999 backend:9898:9898
        redis app.kubernetes.io/name=redis redis:6379 redis:6379:6379
    """)  # fmt: skip
    calls = called(
        "test",
        """
        ingress/contour > frontend:9898
        frontend > backend:9898
        backend > redis:6379 kube-system/coredns:53
        monitoring/prometheus > frontend:9797 backend:9797
    """,
    )
    around = parsed("ingress", "contour app=contour http:8080 contour:80:8080") + parsed("monitoring", MONITORING)
    return Application("podinfo", info + around, calls, {"monitoring": {"purpose": "metrics"}})


def emojivoto() -> Application:
    """Buoyant's polls under Istio's sidecars: gRPC between the parts, whose requests are POSTs of whole methods."""
    votes = parsed("emojivoto", """
        web app=web-svc http:8080 web-svc:80:8080
        emoji app=emoji-svc grpc:8080 emoji-svc:8080:8080
        voting app=voting-svc grpc:8080 voting-svc:8080:8080
        vote-bot app=vote-bot - -
    """)  # fmt: skip
    emoji, voting = "/emojivoto.v1.EmojiService/", "/emojivoto.v1.VotingService/"
    calls = [
        Call("emojivoto/vote-bot", "emojivoto/web", 8080, "TCP", "GET", "/api/list"),
        Call("emojivoto/vote-bot", "emojivoto/web", 8080, "TCP", "GET", "/api/vote"),
        Call("emojivoto/web", "emojivoto/emoji", 8080, "TCP", "POST", f"{emoji}ListAll"),
        Call("emojivoto/web", "emojivoto/emoji", 8080, "TCP", "POST", f"{emoji}FindByShortcode"),
        Call("emojivoto/web", "emojivoto/voting", 8080, "TCP", "POST", f"{voting}VoteDoughnut"),
        Call("emojivoto/web", "emojivoto/voting", 8080, "TCP", "POST", f"{voting}Results"),
    ]
    return Application("emojivoto", votes, calls, {"emojivoto": {"istio-injection": "enabled"}})


def tcp_echo() -> Application:
    """Istio's example for TCP: two ports of one server, and a client of each."""
    echo = parsed("foo", """
        tcp-echo app=tcp-echo tcp:9000,tcp-other:9001 tcp-echo:9000:9000,tcp-echo-other:9001:9001
        sleep app=sleep - -
    """)  # fmt: skip
    calls = called("foo", "sleep > tcp-echo:9000 tcp-echo:9001")
    return Application("tcp-echo", echo, calls, {"foo": {"istio-injection": "enabled"}})
