FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends rabbitmq-server && rm -rf /var/lib/apt/lists/* \
    && echo "loopback_users = none" >/etc/rabbitmq/rabbitmq.conf
ENV RABBITMQ_NODENAME=rabbit@localhost
EXPOSE 5672
CMD ["rabbitmq-server"]
